from kdq.data.catalog import CATALOG
from kdq.report.figures import FIGURES
from kdq.recipe.path import study_folder
from kdq.study.config import merged, read_study
from kdq.provenance.fingerprint import KEPT, Fingerprints
from kdq.workflow.resources import Estimates
from kdq.workflow.planning import Plan
from kdq.workflow.terminal import attendance as terminal

config.update(or_stop(merged, SETTINGS.config_files))
workflow.configfiles[:] = [file for file in SETTINGS.config_files if isinstance(file, str)]  # for its report
STUDY = or_stop(read_study, config, SETTINGS.home / "kdq", SETTINGS.config_files)
CODE = Fingerprints(SETTINGS.home, KEPT)
PLAN = Plan(STUDY, CODE, SETTINGS)
PLAN.prepare_process()
PLAN.attend()
ESTIMATES = Estimates(PLAN)
TERMINAL = terminal.attend(PLAN, ESTIMATES)

DATA_FILE = f"results/{{dataset}}/data/split={STUDY.config.data.split_seed}.safetensors"
REPORT = study_folder(STUDY.name)
PARENT = "results/{dataset}/seed={seed}/{parent}"
STAGE = f"({'|'.join(STUDY.grammar.types)})(,[^/]+)?"


wildcard_constraints:
    dataset="|".join(CATALOG),
    seed="0|[1-9][0-9]*",
    split_seed="[0-9]+",
    parent=f"{STAGE}(/{STAGE})*",
    stage=STAGE,
