"""Write a data set's one file: images, labels, splits and statistics."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.catalog import prepare
    from kdq.data.prepared import write

    job = snakemake.params.job
    check_code(job["code"], "scripts/prepare_data.py", *job["files"])
    dataset, split_seed = snakemake.wildcards.dataset, int(snakemake.wildcards.split_seed)
    keys = snakemake.params.places | job["keys"]
    prepared = prepare(dataset, keys, keys["validation_fraction"], split_seed, log)
    write(snakemake.output.data, prepared, {"code": job["code"], "keys": job["keys"]})
    for part in ("train", "validation", "test"):
        log(f"{part}: {len(getattr(prepared, part).labels):,} images")
