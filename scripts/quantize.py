"""Quantize the parent model's weights by one stage."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read as read_data
    from kdq.models import file as model_file
    from kdq.provenance import describe as provenance
    from kdq.provenance.place import check_places
    from kdq.quantize.quantizer import quantizer_of
    from kdq.quantize.stage import quantize_stage
    from kdq.recipe.path import Cell
    from kdq.train.device import device_name, prepare

    job, cell = snakemake.params.job, Cell.of(snakemake.output.model)
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}  # no sensitivity unless keys need it
    check_code(job["code"], "scripts/quantize.py", *job["files"])
    check_places(inputs)
    device = prepare(snakemake.threads)
    made_with = provenance.describe(job["code"], inputs, threads=snakemake.threads, device=device_name(device))
    parent = model_file.read(inputs["parent"])
    network = model_file.to_network(parent, inputs["parent"])
    quantizer = quantizer_of(job["module"], job["keys"], cell.seed)
    settings = {"seed": cell.seed, "device": device, "log": log, "trained_by": parent.header["keys"]}
    prepared, settings["sensitivity"] = read_data(inputs["data"]), inputs.get("sensitivity")
    codes = quantize_stage(network, prepared, quantizer, **settings)
    architecture, identity = parent.header["architecture"], cell.identity | {"keys": job["keys"]}
    model_file.save(snakemake.output.model, network, architecture, codes, **identity, provenance=made_with)
