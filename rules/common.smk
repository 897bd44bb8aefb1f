import gc
import json
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.settings.types import DeploymentMethod
from snakemake.utils import update_config

from kdq.study.config import DATASETS, read_study, typed
from kdq.data.folder_digest import folder_digest
from kdq.workflow.environment import import_from
from kdq.provenance.fingerprint import KEPT, Fingerprints
from kdq.workflow.job import Job
from kdq.recipe import measurement as measured
from kdq.recipe.grammar import spell
from kdq.recipe.kinds import KINDS
from kdq.roots.keys import local_files
from kdq.workflow.targets import check as check_target
from kdq.workflow.student_groups import beside, missing_students, of_one_teacher

import_from(HOME)  # jobs import the package beside this workflow, whatever folder they run in

OVERLAYS = [str(file) for file in workflow.overwrite_configfiles]
CONFIG_FILES = [str(file) for file in workflow.configfiles if str(file) not in OVERLAYS] + OVERLAYS
if workflow.config_settings.config:
    ON_COMMAND_LINE = typed(dict(workflow.config_settings.config))
    update_config(config, ON_COMMAND_LINE)
    CONFIG_FILES.append(("--config", ON_COMMAND_LINE))
STUDY = or_stop(read_study, config, Path(HOME) / "kdq", CONFIG_FILES)
GRAMMAR = STUDY.grammar
DATA = STUDY.config.data
CODE = Fingerprints(HOME, KEPT)


# Planning makes millions of objects that live to its end: to look through them again and again is a quarter of its time.
gc.freeze()
gc.set_threshold(200_000, 50, 1000)

# An environment of --sdm conda brings its own Python; without one it is the Python that runs Snakemake.
IN_CONDA = DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method


def literal(text):
    """``text`` as one word of a shell command, and in Snakemake's format for one."""
    return shlex.quote(text).replace("{", "{{").replace("}", "}}")


PYTHON = "python" if IN_CONDA else literal(sys.executable)
# A job that runs where Snakemake does is forked in a moment; one on a node of a cluster has that node to itself.
IS_LOCAL = not workflow.remote_exec
LAUNCH = f"-I -S {literal(f'{HOME}/kdq/workflow/launch.py')}" if IS_LOCAL else "-m kdq.workflow.job"


def command(script, **named):
    """The shell command of one cell's job, see kdq/workflow/job.py; ``named`` gives the names of input, output and wildcards."""
    # exec: the command's parent is Snakemake itself, so that it notices when that is killed
    words = ["exec", PYTHON, LAUNCH, literal(f"{HOME}/{script}")]
    for group, names in named.items():
        words += [f"--{group}", *(f"{name}={{{group}.{name}:q}}" for name in names.split())]
    return " ".join([*words, "--threads {threads} --log {log[0]:q} --job {params.job:q}"])


def any_of(words):
    return "|".join(words)


def stages_of(kind):
    """A wildcard constraint: a stage of this kind, with its keys."""
    return f"({any_of(GRAMMAR.names(KINDS[kind])) or 'none'})(,[^/]+)?"


DATA_FILE = f"results/{{dataset}}/data/split={DATA.split_seed}.safetensors"
PARENT = "results/{dataset}/seed={seed}/{parent}"
STAGE = f"({any_of(GRAMMAR.types)})(,[^/]+)?"


wildcard_constraints:
    dataset=any_of(DATASETS),
    seed="[0-9]+",
    split_seed="[0-9]+",
    parent=f"{STAGE}(/{STAGE})*",
    stage=STAGE,


def keys_of(stage):
    return or_stop(GRAMMAR.resolve, or_stop(GRAMMAR.parse_stage, stage))


@cache
def stage_job(stage, script):
    """What a stage's result depends on: code and keys."""
    parsed = or_stop(GRAMMAR.parse_stage, stage)
    file = str(parsed.type.file.relative_to(HOME))
    return Job(
        {
            "code": or_stop(CODE.of, script, file),
            "file": file,
            "keys": keys_of(stage),
            "module": parsed.type.module,
            "name": parsed.name,
        }
    )


def imported_files(wildcards):
    """The files of a local folder that a root is imported from: inputs, so that a changed one is imported again."""
    return or_stop(local_files, keys_of(wildcards.stage))


def job_of_stage(script):
    return lambda wildcards: stage_job(wildcards.stage, script)


def teacher_model(wildcards):
    """The model that a stage that retrains learns from: its float ancestor, or the root."""
    parent, stage = or_stop(GRAMMAR.parse, wildcards.parent), or_stop(GRAMMAR.parse_stage, wildcards.stage)
    teacher = or_stop(GRAMMAR.teacher, parent, stage)
    return f"results/{wildcards.dataset}/seed={wildcards.seed}/{teacher.path}/model.safetensors"


def makes_all_here():
    """Does this run make the whole study, on this machine? Where files or a rule are asked for, nothing else is made."""
    local = workflow.is_main_process and workflow.resource_settings.nodes is None
    return local and not any(word.startswith("results/") or word in ("distill", "quantize") for word in sys.argv[1:])


def jobs_at_once():
    """How many jobs with the study's threads run side by side."""
    return max(1, (workflow.resource_settings.cores or 1) // STUDY.config.threads)


@cache
def students_alike():
    """The students that are to be trained, those together that hear the same from one teacher."""
    return missing_students(STUDY) if makes_all_here() else {}


def students_beside(wildcards, output):
    """What a job may train beside its own student, and how many in all, as JSON; null where it is to train one."""
    recipe = or_stop(GRAMMAR.parse, f"{wildcards.parent}/{wildcards.stage}")
    alike = students_alike().get(of_one_teacher(STUDY, wildcards.dataset, int(wildcards.seed), recipe), [])
    students, others = beside(alike, wildcards.stage, jobs_at_once())
    jobs = [stage_job(stage, "scripts/distill.py") | {"stage": stage} for stage in others]
    return json.dumps({"students": students, "jobs": jobs} if jobs else None)


def teacher_views(wildcards):
    """The file of its teacher's logits for a stage that asks for it, none for the others."""
    keys = keys_of(wildcards.stage)
    if not keys["teacher_cache"]:
        return []
    views = spell("views", {key: keys[key] for key in ("crop", "flip", "precision")})
    return f"{PARENT.format(**wildcards)}/{views}.safetensors"


@cache
def measurement_job(stage):
    """What a stage's sensitivities depend on: as its result, but for the keys that are chosen by them."""
    job, chosen = stage_job(stage, "scripts/sensitivity.py"), or_stop(GRAMMAR.parse_stage, stage).type.keys
    keys = {key: value for key, value in job["keys"].items() if key not in chosen.after_measurement}
    return Job(job | {"keys": keys})


def sensitivity_table(wildcards):
    """The file of what each layer costs alone for a stage that asks for it, none for the others."""
    stage = or_stop(GRAMMAR.parse_stage, wildcards.stage)
    if not stage.type.keys.needs_measurement(keys_of(wildcards.stage)):
        return []
    return f"{PARENT.format(**wildcards)}/{measured.measured_stage(stage)}/{measured.FILE}"


@cache
def job_of_script(script):
    """For a rule that depends on its inputs and its code alone."""
    return Job({"code": or_stop(CODE.of, script)})


@cache
def data_job(dataset):
    """What a data set's file depends on: code, and of the config what matters to this data set."""
    job = {"code": or_stop(CODE.of, "scripts/prepare_data.py"), "keys": STUDY.data_keys(dataset)}
    if dataset == "folder":
        job["images"] = or_stop(folder_digest, {"image_folder": DATA.image_folder})
    return Job(job)


@cache
def cells(name):
    """The file ``name`` of every cell of the grid."""
    return [f"results/{dataset}/seed={seed}/{recipe.path}/{name}" for dataset, seed, recipe in STUDY.cells()]


def check_asked():
    """Refuse a mistyped file or recipe in one line, before Snakemake says only that no rule makes it."""
    for word in sys.argv[1:]:
        or_stop(check_target, word, GRAMMAR, DATASETS)


check_asked()
