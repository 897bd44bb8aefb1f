"""Train the parent model further, on its quantized weights if it has any."""

import importlib
from pathlib import Path

from kdq.recipe.path import Cell
from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    job, cell, threads = snakemake.params.job, Cell.of(snakemake.output.model), snakemake.threads
    importlib.import_module(job["module"])  # before the check: the code that runs is then the code that was checked
    from kdq.data.prepared import read
    from kdq.provenance import describe as provenance
    from kdq.provenance.place import check_places
    from kdq.retrain.stage import retrain
    from kdq.train.device import device_name, prepare
    from kdq.train.precision import log_other_precisions, precision_name
    from kdq.train.stage import save

    check_code(job["code"], "scripts/retrain.py", *job["files"])
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}  # no ancestor unless keys need it
    check_places(inputs)
    device = prepare(threads)
    machine = {"device": device_name(device)}
    if job["keys"]["epochs"]:  # else the network is pruned and not trained
        machine["precision"] = precision_name(job["keys"]["precision"], device)
        log_other_precisions(inputs, machine["precision"], log)
    made_by = provenance.describe(job["code"], inputs, threads=threads, **machine)
    checkpoint = Path(snakemake.output.model).with_name("checkpoint.pt")
    identity = provenance.identity(keys=job["keys"], seed=cell.seed, made_by=made_by)
    settings = {"seed": cell.seed, "threads": threads, "checkpoint": checkpoint, "identity": identity}
    models = inputs["parent"], inputs["teacher"]
    settings |= {"ancestor": inputs.get("ancestor", ""), **snakemake.params.resident}
    trained = retrain(read(inputs["data"]), *models, job["module"], job["keys"], log=log, **settings)
    save(*snakemake.output, trained, **cell.identity, keys=job["keys"], provenance=made_by)
    checkpoint.unlink(missing_ok=True)  # none if the stage's epochs are 0
