"""Quantize the parent model's weights: by one stage, or in one pass by several that differ in their bits alone."""

import contextlib
import importlib
from functools import partial
from pathlib import Path

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read as read_data
    from kdq.errors import UserError
    from kdq.models import file as model_file
    from kdq.provenance import describe as provenance
    from kdq.quantize.configured import quantizer_of
    from kdq.quantize.execution.network import Plan
    from kdq.quantize.stage import cell_of, codes_of, keys_of, quantize_stage, quantize_stages
    from kdq.train.device import device_name, prepare

    job, threads = snakemake.params.job, snakemake.threads
    module = importlib.import_module(job["module"])
    check_code(job["code"], "scripts/quantize.py", job["file"])
    device = prepare(threads)
    inputs = {"data": snakemake.input.data, "parent": snakemake.input.parent}
    sensitivity = vars(snakemake.input).get("sensitivity")  # none for a stage that does not ask for it
    if sensitivity:
        inputs["sensitivity"] = sensitivity
    parent = model_file.read(snakemake.input.parent)
    network = model_file.to_network(parent, snakemake.input.parent)
    prepared = read_data(snakemake.input.data)
    models = {Path(path).parent.name: path for path in vars(snakemake.output).values()}
    dataset, seed, parent_recipe = cell_of(snakemake.input.parent)
    settings = {"seed": seed, "device": device, "trained_by": parent.header["keys"]}
    keys = {stage: keys_of(stage, job["keys"]) for stage in models}

    def save(stage, quantized, codes):
        model_file.save(
            models[stage],
            quantized,
            parent.header["architecture"],
            codes,
            recipe=f"{parent_recipe}/{stage}",
            dataset=dataset,
            seed=seed,
            keys=keys[stage],
            provenance=provenance.describe(job["code"], inputs, threads=threads, device=device_name(device)),
        )

    def save_each():
        """Every stage has a log of its own beside the job's, and fails alone."""
        with contextlib.ExitStack() as logs:
            plans = []
            for stage in models:
                own = logs.enter_context(open(Path(snakemake.log[0]).with_name(f"{stage}.log"), "w", buffering=1))
                own_keys = module.Parameters(**keys[stage])
                plans.append(Plan(quantizer_of(module, own_keys, seed), own_keys, partial(print, file=own)))
            copies = dict(zip(models, quantize_stages(network, prepared, plans, **settings), strict=True))
            for stage, done in copies.items():
                done.plan.log(f"error: {done.error}" if done.error else "done")
                if not done.error:
                    save(stage, done.network, codes_of(done.layers))
        if failed := [f"{stage}: {done.error}" for stage, done in copies.items() if done.error]:
            raise UserError("; ".join(failed))

    if len(models) > 1:
        save_each()
    else:
        stage = next(iter(models))
        own_keys = module.Parameters(**keys[stage])
        quantizer = quantizer_of(module, own_keys, seed)
        codes = quantize_stage(network, prepared, quantizer, own_keys, log=log, sensitivity=sensitivity, **settings)
        save(stage, network, codes)
