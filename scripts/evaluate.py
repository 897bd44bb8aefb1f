"""Measure a model on the validation and the test part."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read as read_data
    from kdq.evaluate import predictions as predictions_file
    from kdq.evaluate.stage import describe, evaluate
    from kdq.models.file import read as read_model
    from kdq.provenance import describe as provenance
    from kdq.provenance.files import sha256, write_json, write_tensors
    from kdq.provenance.place import check_places
    from kdq.recipe.path import Cell
    from kdq.train.device import device_name, prepare

    job = snakemake.params.job
    check_code(job["code"], "scripts/evaluate.py", *job["files"])
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}
    check_places(inputs)
    device = prepare(snakemake.threads)
    made_by = provenance.describe(job["code"], inputs, threads=snakemake.threads, device=device_name(device))
    model, data = inputs["model"], read_data(inputs["data"])
    metrics, predictions = evaluate(read_model(model), model, data, inputs.get("parent"), device)
    cell = Cell.of(snakemake.output.metrics).identity
    metrics |= cell  # the model of a root that several seeds share names the one that it is a copy of
    write_tensors(snakemake.output.predictions, predictions, {"format": predictions_file.FORMAT, **cell})
    metrics["evaluation"] = made_by | {"predictions": sha256(snakemake.output.predictions)}
    write_json(snakemake.output.metrics, metrics)
    log(describe(metrics))
