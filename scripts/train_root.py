"""Train a root from labels, or bring its network from outside."""

from pathlib import Path

from kdq.errors import UserError
from kdq.recipe.path import Cell
from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read
    from kdq.models.libraries import made_with
    from kdq.models.model import Model
    from kdq.provenance import describe as provenance
    from kdq.provenance.place import check_places
    from kdq.roots.keys import is_imported
    from kdq.roots.sources import importer
    from kdq.train.device import device_name, prepare
    from kdq.train.precision import precision_name
    from kdq.train.stage import save, train_root

    job, cell, threads = snakemake.params.job, Cell.of(snakemake.output.model), snakemake.threads
    check_code(job["code"], "scripts/train_root.py", *job["files"])
    check_places({"data": snakemake.input.data})
    prepared, device = read(snakemake.input.data), prepare(threads)
    checkpoint = Path(snakemake.output.model).with_name("checkpoint.pt")
    inputs, trained = {"data": snakemake.input.data}, None
    machine = {"threads": threads, "device": device_name(device)}
    if is_imported(job["keys"]):
        machine = {}  # nothing is computed
        network, architecture, imported = importer(job["keys"]["source"])(prepared, job["keys"], log)
        inputs, trained = inputs | imported, Model(network, architecture)
    else:
        machine["precision"] = precision_name(job["keys"]["precision"], device)
    made_by = provenance.describe(job["code"], inputs, **machine, **made_with(job["keys"]))
    for role, digest in job.get("imported", {}).items():
        if made_by["inputs"][role] != digest:
            raise UserError(f"{inputs[role]}: changed after this run was planned; start snakemake again")
    identity = provenance.identity(keys=job["keys"], seed=cell.seed, made_by=made_by)
    settings = {
        **snakemake.params.resident,
        "seed": cell.seed,
        "threads": threads,
        "checkpoint": checkpoint,
        "identity": identity,
    }
    trained = trained or train_root(prepared, job["keys"], log=log, **settings)
    save(*snakemake.output, trained, **cell.identity, keys=job["keys"], provenance=made_by)
    checkpoint.unlink(missing_ok=True)
