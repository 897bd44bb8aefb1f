"""Train a student from its teacher, the parent model."""

from pathlib import Path

from kdq.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq import models, provenance
    from kdq.data.prepared import read
    from kdq.distill.stage import distill
    from kdq.train.device import device_name, prepare
    from kdq.train.stage import save

    job, wildcards, threads = snakemake.params.job, snakemake.wildcards, snakemake.threads
    check_code(job["code"], "scripts/distill.py", job["file"])
    made_by = provenance.describe(
        job["code"],
        {"data": snakemake.input.data, "parent": snakemake.input.parent},
        threads=threads,
        device=device_name(prepare(threads)),
    )
    checkpoint = Path(snakemake.output.model).with_name("checkpoint.pt")
    trained = distill(
        read(snakemake.input.data),
        models.load(snakemake.input.parent),
        job["module"],
        job["keys"],
        seed=int(wildcards.seed),
        threads=threads,
        checkpoint=checkpoint,
        identity=provenance.identity(keys=job["keys"], seed=wildcards.seed, made_by=made_by),
        log=log,
    )
    save(
        snakemake.output.model,
        snakemake.output.history,
        trained,
        recipe=f"{wildcards.parent}/{wildcards.stage}",
        dataset=wildcards.dataset,
        seed=int(wildcards.seed),
        keys=job["keys"],
        provenance=made_by,
    )
    checkpoint.unlink()
