"""Measure what the parent loses where one of its layers alone is quantized."""

import importlib

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read as read_data
    from kdq.models import file as model_file
    from kdq.quantize.bits.sensitivity import measure
    from kdq.quantize.bits.sensitivity_table import write
    from kdq.quantize.configured import quantizer_of
    from kdq.quantize.gram.calibration_images import calibration_images
    from kdq.train.device import prepare

    job, seed = snakemake.params.job, int(snakemake.wildcards.seed)
    module = importlib.import_module(job["module"])
    check_code(job["code"], "scripts/sensitivity.py", job["file"])
    device = prepare(snakemake.threads)
    network, keys = model_file.load(snakemake.input.parent), module.Parameters(**job["keys"])
    part = calibration_images(read_data(snakemake.input.data), keys.images, seed)
    quantizer = quantizer_of(module, keys, seed)
    write(snakemake.output.sensitivity, measure(network, part, quantizer, keys, seed=seed, device=device, log=log))
