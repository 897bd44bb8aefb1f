"""Measure what the parent loses where one of its layers alone is quantized."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read as read_data
    from kdq.models import file as model_file
    from kdq.quantize.bits.sensitivity import measure
    from kdq.quantize.bits.sensitivity_table import write
    from kdq.quantize.gram.calibration_images import calibration_images
    from kdq.quantize.quantizer import quantizer_of
    from kdq.train.device import prepare

    job, seed = snakemake.params.job, int(snakemake.wildcards.seed)
    check_code(job["code"], "scripts/sensitivity.py", job["file"])
    device = prepare(snakemake.threads)
    network, quantizer = model_file.load(snakemake.input.parent), quantizer_of(job["module"], job["keys"], seed)
    part = calibration_images(read_data(snakemake.input.data), quantizer.keys.images, seed)
    write(snakemake.output.sensitivity, measure(network, part, quantizer, seed=seed, device=device, log=log))
