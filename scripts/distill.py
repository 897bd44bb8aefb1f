"""Train a student from its teacher, the parent model, and possibly other students of that teacher side by side."""

import importlib
from functools import partial
from pathlib import Path

from kdq.workflow.job import cell, check_code, is_planned, running

SCRIPT = "scripts/distill.py"

with running(snakemake.log[0]) as log:
    job, wildcards = snakemake.params.job | {"stage": snakemake.wildcards.stage}, snakemake.wildcards
    importlib.import_module(job["module"])  # before the check: the code that runs is then the code that was checked
    from kdq.distill.side_by_side import Students
    from kdq.provenance.place import check_places
    from kdq.train.stage import save

    check_code(job["code"], SCRIPT, job["file"])
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}
    check_places(inputs)
    folder = Path(snakemake.output.model).parent.parent
    students = Students(inputs, folder, job["code"], seed=int(wildcards.seed), threads=snakemake.threads)
    with students.trained(job, snakemake.params.beside, partial(is_planned, script=SCRIPT), log) as trained:
        save(*snakemake.output, trained, **cell(wildcards), keys=job["keys"], provenance=students.made_by)
