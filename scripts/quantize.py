"""Quantize the parent model's weights."""

from kdq.job import check_code, running, stage_module

with running(snakemake.log[0]) as log:
    from kdq import provenance
    from kdq.data.prepared import read as read_data
    from kdq.models import file as model_file
    from kdq.quantize.configured import quantizer_of
    from kdq.quantize.stage import quantize_stage
    from kdq.train.device import device_name, prepare

    job, wildcards, threads = snakemake.params.job, snakemake.wildcards, snakemake.threads
    seed = int(wildcards.seed)
    module = stage_module("quantize", job["name"])
    check_code(job["code"], "scripts/quantize.py", job["file"])
    device = prepare(threads)
    inputs = {"data": snakemake.input.data, "parent": snakemake.input.parent}
    sensitivity = snakemake.input.sensitivity  # empty for a stage that does not ask for it
    if sensitivity:
        inputs["sensitivity"] = sensitivity
    parent = model_file.read(snakemake.input.parent)
    network = model_file.to_network(parent, snakemake.input.parent)
    keys, prepared = module.Parameters(**job["keys"]), read_data(snakemake.input.data)
    settings = {"seed": seed, "device": device, "log": log, "sensitivity": sensitivity}
    codes = quantize_stage(network, prepared, quantizer_of(module, keys, seed), keys, **settings)
    model_file.save(
        snakemake.output.model,
        network,
        parent.header["architecture"],
        codes,
        recipe=f"{wildcards.parent}/{wildcards.stage}",
        dataset=wildcards.dataset,
        seed=seed,
        keys=job["keys"],
        provenance=provenance.describe(job["code"], inputs, threads=threads, device=device_name(device)),
    )
