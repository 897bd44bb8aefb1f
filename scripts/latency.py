"""Measure how fast a model's ONNX file runs beside the float files of its float network and its root."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.deploy import record
    from kdq.deploy.latency import measure, summary
    from kdq.provenance.files import read_header, sha256, write_json
    from kdq.provenance.formats import MODEL
    from kdq.provenance.place import check_place
    from kdq.recipe.path import Cell

    job, latency = snakemake.params.job, snakemake.output.latency
    check_code(job["code"], "scripts/latency.py", *job["files"])
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}
    check_place(inputs["network"], read_header(inputs["network"], MODEL))
    names = {"model": ("onnx", "record"), "float": ("float_onnx", "float_record"), "root": ("root_onnx", "root_record")}
    files = {name: inputs[onnx] for name, (onnx, _) in names.items() if onnx in inputs}
    records = {name: record.read(inputs[names[name][1]], file) for name, file in files.items()}
    images = record.described_input(inputs["record"], records["model"])
    measured = measure(files, images, network=inputs["network"])
    facts = {"onnx": {key: records["model"][key] for key in ("bytes", "test")}, **measured}
    made_by = {"job": dict(job), "inputs": {role: sha256(path) for role, path in inputs.items()}, "outputs": {}}
    write_json(latency, {**Cell.of(latency).identity, **facts, **made_by})
    if measured["busy"]:
        log(f"{measured['busy']}; no numbers. On a quiet machine: snakemake --force {latency}")
    else:
        log(summary(measured))
