"""Train a student from its teacher, the parent model, and others of that teacher beside it where the job names some."""

from pathlib import Path

from kdq.workflow.job import cell, check_code, is_planned, running

with running(snakemake.log[0]) as log:
    from kdq import models
    from kdq.data.prepared import read
    from kdq.distill import cached_logits
    from kdq.distill import side_by_side as beside
    from kdq.distill.stage import distill
    from kdq.provenance import describe as provenance
    from kdq.train import checkpoint
    from kdq.train.device import compute_dtype, device_name, prepare
    from kdq.train.stage import save

    job, wildcards, threads = snakemake.params.job, snakemake.wildcards, snakemake.threads
    keys, inputs = job["keys"], {"data": snakemake.input.data, "parent": snakemake.input.parent}
    check_code(job["code"], "scripts/distill.py", job["file"])
    if keys["teacher_cache"]:
        inputs["views"] = snakemake.input.views
    device, folder = prepare(threads), Path(snakemake.output.model).parent
    made_by = provenance.describe(job["code"], inputs, threads=threads, device=device_name(device))
    prepared, teacher, teacher_logits = read(snakemake.input.data), models.load(snakemake.input.parent), None
    if keys["teacher_cache"]:
        teacher_logits = cached_logits.read(
            snakemake.input.views,
            prepared,
            crop=keys["crop"],
            flip=keys["flip"],
            precision=str(compute_dtype(keys["precision"], device)),
            data=made_by["inputs"]["data"],
            teacher=made_by["inputs"]["parent"],
        )

    def identity(job):
        made_so = {**made_by, "code": job["code"]}
        return provenance.identity(keys=job["keys"], seed=wildcards.seed, made_by=made_so)

    def is_trained(job, folder):
        state = checkpoint.load(folder / "checkpoint.pt", identity(job), lambda line: None)
        return state is not None and state["epoch"] == job["keys"]["epochs"]

    def train(job, folder, log, **arguments):
        """Train the student of a job; whatever ends it, its checkpoint in ``folder`` is that of its last epoch."""
        return distill(
            prepared,
            teacher,
            job["module"],
            job["keys"],
            seed=int(wildcards.seed),
            threads=threads,
            checkpoint=folder / "checkpoint.pt",
            identity=identity(job),
            log=log,
            **arguments,
        )

    with beside.claims() as claim:
        own = claim(folder)
        others = snakemake.params.beside
        if others and not (own and is_trained(job, folder)):
            others["jobs"] = [
                other
                for other in others["jobs"]
                if is_planned(other, "scripts/distill.py") and not is_trained(other, folder.parent / other["stage"])
            ]
            students = [(job, folder)] if own and beside.shares(job) else []
            beside.train_with(students, others, folder.parent, teacher, device, train, log)
        if not own:
            log("another job trains this student beside its own; waiting for it")
            claim(folder, wait=True)
        trained = train(job, folder, log, teacher_logits=teacher_logits)
        outputs = snakemake.output.model, snakemake.output.history
        save(*outputs, trained, **cell(wildcards), keys=keys, provenance=made_by)
        (folder / "checkpoint.pt").unlink(missing_ok=True)
