"""Commands, inputs and params of the rules: what Snakemake needs to plan a study."""

import gc
import json
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path

from kdq.data.catalog import CATALOG
from kdq.data.data_sets import Images
from kdq.data.folder_digest import KEPT as KEPT_IMAGES
from kdq.data.folder_digest import folder_digest
from kdq.data.folder_files import counts
from kdq.deploy import machine
from kdq.models.libraries import library_name
from kdq.provenance.file_digests import KEPT as KEPT_FILES
from kdq.provenance.file_digests import FileDigests
from kdq.provenance.fingerprint import Fingerprints
from kdq.recipe import path
from kdq.recipe.grammar import Recipe, Stage
from kdq.recipe.kinds import KINDS
from kdq.recipe.path import Cell
from kdq.report.jobs import ReportJobs
from kdq.roots.keys import local_files
from kdq.study import products
from kdq.study.config import Study
from kdq.study.files import check_owner
from kdq.workflow import report_targets, slurm, targets
from kdq.workflow.job import Job
from kdq.workflow.kept_outputs import keep_outputs
from kdq.workflow.library_networks import LibraryNetworks
from kdq.workflow.lost_records import LostRecords
from kdq.workflow.settings import Settings, or_stop
from kdq.workflow.snakemake_fixes.parts import part
from kdq.workflow.student_groups import group_of, missing_students, students_beside

LISTS_END = "LISTS"  # ends the here-document of a job with lists of files; a path has a slash


class Plan:
    """The plan of one study with the code on disk, for one run of Snakemake.

    Methods that take ``wildcards`` are input or params functions. A UserError ends Snakemake with one line.
    """

    def __init__(self, study: Study, code: Fingerprints, settings: Settings):
        self.study, self.code, self.settings, self.report = study, code, settings, ReportJobs(study, code)
        self._digests, self.networks = FileDigests(KEPT_FILES), LibraryNetworks(settings.home)
        launcher = ["-I", "-S", str(settings.home / "kdq/workflow/launch.py")]
        # a local job is forked from a warm process; a job on a node of a cluster has that node to itself
        self._start = [settings.python, *(launcher if settings.is_local else ("-m", "kdq.workflow.job"))]
        for name in ("stage_job", "data_job", "images", "network_files", "_script_job", "_students"):
            setattr(self, name, cache(getattr(self, name)))

    def prepare_process(self) -> None:
        """Set this process up for planning: jobs import the package beside the Snakefile, garbage collection is rare.

        Planning makes millions of objects that live to its end; to search them for garbage takes a quarter of its time.
        """
        home = str(self.settings.home)
        others = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry and entry != home]
        os.environ["PYTHONPATH"] = os.pathsep.join([home, *others])
        gc.freeze()
        gc.set_threshold(200_000, 50, 1000)

    def thread_notice(self) -> list[str]:
        """Return lines for the start of a run: a job takes the threads of the study even if there are fewer cores."""
        threads, cores = self.study.config.threads, self.settings.cores
        if self.settings.is_on_cluster or threads <= cores:
            return []
        return [f"threads: {threads}, but {cores} cores: jobs take {threads} threads, on which their bytes depend\n"]

    def attend(self) -> None:
        """Take part in Snakemake's planning: check what it was asked for, and judge results without a record."""
        records = LostRecords(self.study, self.code)
        self.settings.before_planning(self.check_targets)
        self.settings.before_planning(self.check_networks)
        self.settings.before_planning(self.check_cluster)
        self.settings.with_records(records.use)
        keep_outputs(part("snakemake.jobs", "Job"), records.can_judge, puts_back=self.settings.is_main)
        self.settings.after_planning(lambda: sys.stderr.writelines(self.remarks(records)))

    def remarks(self, records: LostRecords) -> list[str]:
        """Return lines on what Snakemake has planned, and would not remark on."""
        nothing = [f"--until {word}: this study has no such job\n" for word in self.settings.until_nothing]
        return [*nothing, *records.report(self.settings.reruns_changed_params)]

    def command(self, script: str, *, lists: str = "", unrecorded: str = "", **named: str) -> str:
        """Return the shell command of a job that runs ``script``, see kdq/workflow/job.py.

        ``named`` gives the names of single values by group: input, output, wildcards. ``lists`` names inputs that are
        lists of files: they, and the job, are passed on standard input, since a command line can't hold those of a
        large grid. ``unrecorded`` names params, JSON, that Snakemake does not record since they are functions of the
        output.
        """
        # exec: the command's parent is Snakemake itself, so that it notices when Snakemake is killed
        words = ["exec", *map(_literal, self._start), _literal(str(self.settings.home / script))]
        for group, names in named.items():
            words += [f"--{group}", *(f"{name}={{{group}.{name}:q}}" for name in names.split())]
        words += ["--threads {threads} --log {log[0]:q}"]
        words += [f"--unrecorded {name}={{params.{name}:q}}" for name in unrecorded.split()]
        if lists:
            lines = ["job {params.job:q}", *(f"{name} {{input.{name}:q}}" for name in lists.split())]
            return " ".join(words) + "\n".join([f" <<'{LISTS_END}'", *lines, f"{LISTS_END}\n"])
        return " ".join([*words, "--job {params.job:q}"])

    def stage(self, text: str) -> Stage:
        return or_stop(self.study.grammar.parse_stage, text)

    def recipe(self, text: str) -> Recipe:
        return or_stop(self.study.grammar.parse, text)

    def keys(self, stage: str) -> dict:
        """Return all keys that a stage reads, resolved."""
        return or_stop(self.study.grammar.resolve, self.stage(stage))

    def stages_of(self, *kinds: str) -> str:
        """Return a wildcard constraint: a stage of these kinds, with its keys."""
        names = [name for kind in kinds for name in self.study.grammar.names(KINDS[kind])]
        return f"({'|'.join(names) or 'none'})(,[^/]+)?"

    def network_files(self, recipe: str) -> tuple[str, ...]:
        return tuple(or_stop(products.network_files, self.recipe(recipe), self.study.grammar))

    def stage_job(self, stage: str, script: str, networks: tuple[str, ...]) -> Job:
        """Return what a stage's result depends on besides its inputs: code, with that of its ``networks``, and keys."""
        parsed = self.stage(stage)
        files = [str(parsed.type.file.relative_to(self.settings.home)), *networks]
        code = or_stop(self.code.of, script, *files)
        keys = self.keys(stage)
        further = products.computed_with(self.study, keys)
        return Job(code=code, files=files, keys=keys, module=parsed.type.module, name=parsed.name, **further)

    def measurement_job(self, wildcards) -> Job:
        """Return what a stage's sensitivities depend on: its job without the keys that are chosen by them."""
        job = self.job_of_stage("scripts/sensitivity.py")(wildcards)
        return Job(job | {"keys": self.stage(wildcards.stage).type.keys.measurement_keys(job["keys"])})

    def _script_job(self, script: str, networks: tuple[str, ...]) -> Job:
        return Job(code=or_stop(self.code.of, script, *networks), files=networks)

    def script_job(self, script: str) -> Callable:
        """Return the params function of a model's rule that depends on its inputs and its code alone."""
        return lambda wildcards: self._script_job(script, self.network_files(_recipe_of(wildcards)))

    def export_job(self, wildcards) -> Job:
        return Job(self.script_job("scripts/export.py")(wildcards) | products.keys_of_export(self.study))

    def data_job(self, dataset: str) -> Job:
        """Return what a data set's file depends on: code, and the part of the config that matters to this data set."""
        keys = self.study.data_keys(dataset)
        if CATALOG[dataset].images is None:  # only its files tell what is in it
            keys["images"] = or_stop(folder_digest, {"image_folder": self.study.config.data.image_folder}, KEPT_IMAGES)
        file = CATALOG[dataset].declared.file()
        return Job(code=or_stop(self.code.of, "scripts/prepare_data.py", file), files=[file], keys=keys)

    def resident(self, wildcards, output) -> Job:
        """Return where a training has its images: not recorded, its result does not depend on it."""
        return Job(resident=self.study.config.data.resident)

    def data_places(self, wildcards, output) -> Job:
        """Return the places of images: not recorded, so that moving them reruns nothing."""
        return Job(self.study.config.data.model_dump())

    def job_of_stage(self, script: str) -> Callable:
        """Return the params function of a rule that makes models: the job of the last stage."""
        return lambda wildcards: self.stage_job(wildcards.stage, script, self.network_files(_recipe_of(wildcards)))

    def root_job(self, wildcards) -> Job:
        """Return the job of a root; if it is imported from a local folder, with the digests of its files.

        The files are no inputs, whose times would count: only their content does.
        """
        job = self.job_of_stage("scripts/train_root.py")(wildcards)
        local = or_stop(local_files, job["keys"])
        return Job(job | {"imported": {role: self._digests.of(path) for role, path in local.items()}}) if local else job

    def input(self, role: str, inputs=products.INPUTS) -> Callable:
        """Return the input function of a model's role, see kdq/study/products.py; [] if a model has no such input."""

        def input_of(wildcards) -> str | list:
            recipe = self.recipe(_recipe_of(wildcards))
            cell = Cell(wildcards.dataset, wildcards.seed, recipe.path)
            return or_stop(inputs[role], products.Place(self.study, cell, recipe)) or []

        return input_of

    def in_folder(self, role: str) -> Callable:
        """Return the input function of a role of the rule ``model_folder``."""
        return self.input(role, products.IN_FOLDER)

    def folder_job(self, wildcards) -> Job:
        """Return the job of a folder to give away: it names the keys of every stage."""
        cell = Cell(wildcards.dataset, wildcards.seed, wildcards.parent)
        place = products.Place(self.study, cell, self.recipe(cell.recipe))
        job = self.script_job("scripts/model_folder.py")(wildcards)
        return Job(job | or_stop(products.keys_of_stages, place))

    def timed(self, role: str) -> Callable:
        """Return the input function of a role of the rule ``latency``."""
        return self.input(role, products.TIMED)

    @cached_property
    def machine(self) -> str:
        """What makes a time of another machine worthless here: processor and runtimes; of a cluster's nodes no one."""
        if self.settings.is_on_cluster or not self.settings.is_local:
            return "that of the job"
        return json.dumps({**machine.processor(), **machine.runtimes()})

    @property
    def all_cores(self) -> int:
        """The threads of a job beside which no other runs; on a cluster, whose nodes have cores of their own, 1."""
        return 1 if self.settings.is_on_cluster else self.settings.cores

    def files_of_cells(self, rule: str) -> Callable:
        """Return the input function of a table's rule: the files of all cells in the table."""
        return lambda wildcards: self.report.inputs(rule)

    def table_job(self, rule: str) -> Job:
        return or_stop(self.report.job, rule)

    def source(self, wildcards, output) -> Job:
        """Return what records of tables and figures tell of the study; their folder must not be another study's."""
        return self._source

    @cached_property
    def _source(self) -> Job:
        or_stop(check_owner, Path(path.study_folder(self.study.name)), self.study.source)
        return Job(self.study.source)

    def all_targets(self) -> list[str]:
        return list(products.all_targets(self.study, self.report.contents))

    def check_targets(self) -> None:
        """Refuse a mistyped rule, file or recipe: Snakemake makes nothing, leaves nothing out, or names no reason."""
        rules = self.settings.rules
        for word in sorted(self.settings.asked - rules):
            or_stop(report_targets.check, word, self.study.name, self.study.config.datasets)
            or_stop(targets.check_word, word, rules)
            or_stop(targets.check, word, self.study.grammar, CATALOG, self.study.config.data)

    def check_networks(self) -> None:
        """Refuse a network that timm or torchvision does not have: both are asked in a process of their own."""
        stages = {stage.text: stage for recipe in self.study.recipes for stage in recipe.stages}.values()
        described = [
            keys for keys in map(self.study.grammar.resolve, stages) if library_name(keys.get("architecture", ""))
        ]
        if described:
            pairs = [(keys, self.images(dataset)) for keys in described for dataset in self.study.config.datasets]
            or_stop(self.networks.costs, pairs)

    def images(self, dataset: str) -> Images:
        """Return the size of a data set."""
        data = self.study.config.data
        if not (size := CATALOG[dataset].images):
            count, classes = or_stop(counts, {"image_folder": data.image_folder})
            size = Images(count, data.image_size, 3, classes)
        return replace(size, mapped=data.resident == "false")

    def check_cluster(self) -> None:
        if self.settings.executor == "slurm":
            or_stop(slurm.check)

    def _students(self) -> dict[tuple, list[str]]:
        return missing_students(self.study) if self.settings.makes_whole_study else {}

    def students_beside(self, wildcards, output) -> str:
        """Return as JSON the further students that a job may train, and how many it trains in all; null if none."""
        recipe = self.recipe(_recipe_of(wildcards))
        group = self._students().get(group_of(self.study, wildcards.dataset, int(wildcards.seed), recipe), [])
        jobs_at_once = max(1, self.settings.cores // self.study.config.threads)
        students, others = students_beside(group, wildcards.stage, jobs_at_once)
        recipes = {other: path.join(wildcards.parent, other) for other in others}
        jobs = [
            self.stage_job(stage, "scripts/distill.py", self.network_files(recipe)) | {"stage": stage}
            for stage, recipe in recipes.items()
        ]
        return json.dumps({"students": students, "jobs": jobs} if jobs else None)


def _recipe_of(wildcards) -> str:
    """Return the recipe of the model that a rule's ``wildcards`` name by ``parent``, ``stage`` or both."""
    return path.join(getattr(wildcards, "parent", ""), getattr(wildcards, "stage", ""))


def _literal(text: str) -> str:
    """Return ``text`` as one word of a shell command that Snakemake formats."""
    return shlex.quote(text).replace("{", "{{").replace("}", "}}")
