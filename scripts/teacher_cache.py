"""Compute a teacher's logits for all crops and flips of the training images, for all of its students."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read
    from kdq.distill.cached_logits import FORMAT
    from kdq.distill.teacher_cache import logits_of_views
    from kdq.models import file as model_file
    from kdq.provenance import describe as provenance
    from kdq.provenance.files import write_tensors
    from kdq.provenance.place import check_places
    from kdq.recipe.path import Cell
    from kdq.train.device import compute_dtype, device_name, prepare

    job, threads = snakemake.params.job, snakemake.threads
    check_code(job["code"], "scripts/teacher_cache.py", *job["files"])
    inputs = {"data": snakemake.input.data, "teacher": snakemake.input.teacher}
    check_places(inputs)
    device = prepare(threads)
    made_by = provenance.describe(job["code"], inputs, threads=threads, device=device_name(device))
    crop, flip = int(snakemake.wildcards.crop), snakemake.wildcards.flip == "true"
    dtype = compute_dtype(snakemake.wildcards.precision, device)
    parent, prepared = model_file.load(snakemake.input.teacher), read(snakemake.input.data)
    logits = logits_of_views(parent, prepared, crop=crop, flip=flip, dtype=dtype, device=device, log=log)
    made_for = Cell.of(snakemake.output.views).identity | {"crop": crop, "flip": flip, "precision": str(dtype)}
    header = {"format": FORMAT, **made_for, **made_by["inputs"], "provenance": made_by}
    write_tensors(snakemake.output.views, {"logits": logits}, header)
