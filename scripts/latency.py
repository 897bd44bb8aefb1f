"""Measure how fast a model's ONNX file runs beside the float files of its float ancestor and its root."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.data.prepared import read as read_data
    from kdq.deploy.latency import measure, summary
    from kdq.provenance.files import sha256, write_json
    from kdq.recipe.path import Cell

    job = snakemake.params.job
    check_code(job["code"], "scripts/latency.py")
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}
    size = tuple(read_data(inputs.pop("data")).test.images.shape[1:])
    measured = measure(inputs, size)
    made_by = {"job": dict(job), "inputs": {role: sha256(path) for role, path in inputs.items()}, "outputs": {}}
    write_json(snakemake.output.latency, {**Cell.of(snakemake.output.latency).identity, **measured, **made_by})
    log(measured["busy"] or summary(measured))
