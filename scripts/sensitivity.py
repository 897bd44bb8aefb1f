"""Measure what the parent loses if one of its layers alone is quantized."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read as read_data
    from kdq.models import file as model_file
    from kdq.provenance import describe as provenance
    from kdq.provenance.place import check_places
    from kdq.quantize.bits.sensitivity import measure
    from kdq.quantize.bits.sensitivity_table import write
    from kdq.quantize.gram.calibration_images import calibration_images, cost_images
    from kdq.quantize.quantizer import quantizer_of
    from kdq.recipe.path import Cell
    from kdq.train.device import device_name, prepare

    job, threads, table = snakemake.params.job, snakemake.threads, snakemake.output.sensitivity
    check_code(job["code"], "scripts/sensitivity.py", *job["files"])
    inputs = {role: getattr(snakemake.input, role) for role in ("data", "parent")}
    check_places(inputs)
    device, cell = prepare(threads), Cell.of(table)
    made_by = provenance.describe(job["code"], inputs, threads=threads, device=device_name(device))
    network, quantizer = model_file.load(inputs["parent"]), quantizer_of(job["module"], job["keys"], cell.seed)
    prepared = read_data(inputs["data"])
    parts = [calibration_images(prepared, quantizer.keys.images, cell.seed), cost_images(prepared, cell.seed)]
    measured = measure(network, parts[0], quantizer, cell.seed, device, log, evaluated=parts[1])
    write(table, measured, cell, keys=job["keys"], provenance=made_by)
