"""Train a root from labels."""

from pathlib import Path

from kdq.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq import provenance
    from kdq.data.prepared import read
    from kdq.train.device import device_name, prepare
    from kdq.train.stage import save, train_root

    job, wildcards, threads = snakemake.params.job, snakemake.wildcards, snakemake.threads
    check_code(job["code"], "scripts/train_root.py", job["file"])
    made_by = provenance.describe(
        job["code"], {"data": snakemake.input.data}, threads=threads, device=device_name(prepare(threads))
    )
    checkpoint = Path(snakemake.output.model).with_name("checkpoint.pt")
    trained = train_root(
        read(snakemake.input.data),
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
        recipe=wildcards.stage,
        dataset=wildcards.dataset,
        seed=int(wildcards.seed),
        keys=job["keys"],
        provenance=made_by,
    )
    checkpoint.unlink()
