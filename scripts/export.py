"""Export a model as an ONNX file and score it."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from pathlib import Path

    from kdq.data.prepared import read as read_data
    from kdq.deploy.export import export, input_of, score
    from kdq.evaluate import predictions as predictions_file
    from kdq.models.file import read as read_model
    from kdq.provenance.files import read_header, sha256, write_json
    from kdq.provenance.formats import PREDICTIONS
    from kdq.provenance.place import check_place, check_places
    from kdq.recipe.path import Cell
    from kdq.train.device import prepare

    job, onnx = snakemake.params.job, snakemake.output.onnx
    check_code(job["code"], "scripts/export.py", *job["files"])
    inputs = {role: getattr(snakemake.input, role) for role in ("data", "model", "predictions")}
    check_places(inputs)
    check_place(inputs["predictions"], read_header(inputs["predictions"], PREDICTIONS))
    prepare(snakemake.threads)
    digests = {role: sha256(path) for role, path in inputs.items()}
    prepared, (_, predictions) = read_data(inputs["data"]), predictions_file.read(inputs["predictions"])
    export(read_model(inputs["model"]), inputs["model"], onnx, prepared, digests["model"], job["input"])
    predicted = predictions_file.classes(inputs["predictions"], predictions, "test", len(prepared.test.labels))
    facts = {
        "bytes": Path(onnx).stat().st_size,
        "input": input_of(prepared.test.images, job["input"]),
        "test": score(onnx, prepared.test, predicted),
    }
    made_by = {"job": dict(job), "inputs": digests, "outputs": {onnx: sha256(onnx)}}
    write_json(snakemake.output.record, {**Cell.of(onnx).identity, **facts, **made_by})
    log(f"{facts['bytes']:,} bytes, test top-1 {facts['test']['top1']:.4f}, agreement {facts['test']['agreement']:.4f}")
