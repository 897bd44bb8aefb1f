"""Train a student from its teacher, the parent model, and possibly other students of that teacher side by side."""

import importlib
from functools import partial
from pathlib import Path

from kdq.recipe.path import Cell
from kdq.workflow.job import check_code, is_planned, running

SCRIPT = "scripts/distill.py"

with running(snakemake.log[0]) as log:
    model = Path(snakemake.output.model)
    job, cell = snakemake.params.job | {"stage": model.parent.name}, Cell.of(model)
    importlib.import_module(job["module"])  # before the check: the code that runs is then the code that was checked
    from kdq.distill.side_by_side import Students
    from kdq.provenance.place import check_places
    from kdq.train.stage import save

    check_code(job["code"], SCRIPT, *job["files"])
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}
    check_places(inputs)
    settings = {"seed": cell.seed, "threads": snakemake.threads, **snakemake.params.resident}
    students = Students(inputs, model.parent.parent, job["code"], **settings)
    with students.trained(job, snakemake.params.beside, partial(is_planned, script=SCRIPT), log) as trained:
        save(*snakemake.output, trained, **cell.identity, keys=job["keys"], provenance=students.made_by(job))
