"""Train a student from its teacher, the parent model."""

from pathlib import Path

from kdq.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq import models, provenance
    from kdq.data.prepared import read
    from kdq.distill import cached_logits
    from kdq.distill.stage import distill
    from kdq.train.device import compute_dtype, device_name, prepare
    from kdq.train.stage import save

    job, wildcards, threads = snakemake.params.job, snakemake.wildcards, snakemake.threads
    keys, inputs = job["keys"], {"data": snakemake.input.data, "parent": snakemake.input.parent}
    check_code(job["code"], "scripts/distill.py", job["file"])
    if keys["teacher_cache"]:
        inputs["views"] = snakemake.input.views
    device = prepare(threads)
    made_by = provenance.describe(job["code"], inputs, threads=threads, device=device_name(device))
    prepared, teacher_logits = read(snakemake.input.data), None
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
    checkpoint = Path(snakemake.output.model).with_name("checkpoint.pt")
    trained = distill(
        prepared,
        models.load(snakemake.input.parent),
        job["module"],
        keys,
        seed=int(wildcards.seed),
        threads=threads,
        checkpoint=checkpoint,
        identity=provenance.identity(keys=keys, seed=wildcards.seed, made_by=made_by),
        log=log,
        teacher_logits=teacher_logits,
    )
    save(
        snakemake.output.model,
        snakemake.output.history,
        trained,
        recipe=f"{wildcards.parent}/{wildcards.stage}",
        dataset=wildcards.dataset,
        seed=int(wildcards.seed),
        keys=keys,
        provenance=made_by,
    )
    checkpoint.unlink(missing_ok=True)
