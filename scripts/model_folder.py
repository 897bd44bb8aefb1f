"""Write a folder to give away: a model's files, scored again, with a model card."""

from kdq.workflow.job import HOME, check_code, running

with running(snakemake.log[0]) as log:
    from dataclasses import asdict

    from kdq.deploy.model_folder import write
    from kdq.provenance.files import read_header, sha256, write_json
    from kdq.provenance.formats import PREDICTIONS
    from kdq.provenance.place import check_place, check_places
    from kdq.recipe.path import Cell
    from kdq.train.device import prepare

    job, output = snakemake.params.job, dict(vars(snakemake.output))
    check_code(job["code"], "scripts/model_folder.py", *job["files"])
    inputs = {role: path for role, path in vars(snakemake.input).items() if path}
    check_places(inputs)
    check_place(inputs["float"], read_header(inputs["float"], PREDICTIONS))
    record = output.pop("provenance")
    scores = write(output, inputs, HOME / "LICENSE", job["stages"], prepare(snakemake.threads))
    digests = {role: sha256(path) for role, path in inputs.items()}
    made_by = {"job": dict(job), "inputs": digests, "outputs": {path: sha256(path) for path in output.values()}}
    write_json(record, {**Cell.of(record).identity, "scores": [asdict(score) for score in scores], **made_by})
    log(f"{record}: " + ", ".join(f"{score.file} test top-1 {score.top1:.4f}" for score in scores))
