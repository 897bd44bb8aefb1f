from snakemake.utils import update_config

from kdq.data.catalog import CATALOG
from kdq.report.figures import FIGURES
from kdq.study.config import read_study
from kdq.provenance.fingerprint import KEPT, Fingerprints
from kdq.workflow.resources import Estimates
from kdq.workflow.planning import Plan

update_config(config, SETTINGS.overrides)
STUDY = or_stop(read_study, config, SETTINGS.home / "kdq", SETTINGS.config_files)
CODE = Fingerprints(SETTINGS.home, KEPT)
PLAN = Plan(STUDY, CODE, SETTINGS)
PLAN.prepare_process()
PLAN.check_targets()
ESTIMATES = Estimates(PLAN)

DATA_FILE = f"results/{{dataset}}/data/split={STUDY.config.data.split_seed}.safetensors"
PARENT = "results/{dataset}/seed={seed}/{parent}"
STAGE = f"({'|'.join(STUDY.grammar.types)})(,[^/]+)?"


wildcard_constraints:
    dataset="|".join(CATALOG),
    seed="0|[1-9][0-9]*",
    split_seed="[0-9]+",
    parent=f"{STAGE}(/{STAGE})*",
    stage=STAGE,
