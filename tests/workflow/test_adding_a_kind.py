"""A new kind of stage is a description, a folder, a rule and a script, and nothing else."""

import json

import pytest

from kdq.models import load
from tests.workflow.test_adopt import command, not_fresh

TABLE = "KINDS = {kind.name: kind for kind in (ROOT, DISTILL, QUANTIZE, RETRAIN, TUNE, PRUNE)}"
KIND = f"""CLIP = Kind("clip", "kdq.clip", "scripts/clip.py", inputs=("parent",))
{TABLE.replace("PRUNE)", "PRUNE, CLIP)")}"""
FILES = {
    "kdq/clip/__init__.py": "",
    "kdq/clip/methods/__init__.py": "",
    "kdq/clip/keys.py": '''"""The keys that every stage which clips has."""

SHARED_KEYS = ()
''',
    "kdq/clip/methods/limit.py": '''"""Limit: the largest weights of a layer become smaller."""

from kdq.recipe.vocabulary import Annotated, Base, Field


class Parameters(Base):
    """Clipping by magnitude."""

    share: Annotated[float, Field(gt=0, le=1, description="share of a layer's largest |weight| that is left")] = 0.5


def clip(weight, share):
    """Return ``weight`` with no entry beyond the given share of the largest in magnitude."""
    limit = share * weight.abs().max()
    return weight.clamp(-limit, limit)
''',
    "scripts/clip.py": '''"""Clip weights of the parent model."""

import importlib

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.models import file as model_file
    from kdq.provenance import describe as provenance
    from kdq.models.codes import Codes
    from kdq.provenance.place import check_place
    from kdq.recipe.path import Cell
    from kdq.train.device import device_name, prepare

    job, path = snakemake.params.job, snakemake.input.parent
    module = importlib.import_module(job["module"])
    check_code(job["code"], "scripts/clip.py", *job["files"])
    parent = model_file.read(path)
    check_place(path, parent.header)
    network = model_file.to_network(parent, path)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.data = module.clip(parameter.data, job["keys"]["share"])
    machine = {"threads": snakemake.threads, "device": device_name(prepare(snakemake.threads))}
    made_by = provenance.describe(job["code"], {"parent": path}, **machine)
    header = {**Cell.of(snakemake.output.model).identity, "keys": job["keys"], "provenance": made_by}
    model_file.save(snakemake.output.model, network, parent.header["architecture"], Codes(), **header)
''',
}
RULE = """

rule clip:
    input:
        parent=f"{PARENT}/model.safetensors",
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
    log:
        "logs/clip/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=PLAN.stages_of("clip"),
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.job_of_stage("scripts/clip.py"),
    message:
        "Clipping {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        PLAN.command("scripts/clip.py", input="parent", output="model", wildcards="dataset seed parent stage")
"""
CLIPPED = "hard/limit,share=0.5"
RECIPE = f"{CLIPPED}/rtn,bits=4"


def add_kind(folder) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    kinds = folder / "kdq/recipe/kinds.py"
    text = kinds.read_text()
    assert TABLE in text
    kinds.write_text(text.replace(TABLE, KIND))
    rules = folder / "rules/quantize.smk"
    rules.write_text(rules.read_text() + RULE)


def test_a_description_a_folder_a_rule_and_a_script_make_a_kind(fresh):
    add_kind(fresh.folder)
    fresh.configure({"recipes": [RECIPE]})
    done = fresh.run("--cores", "2")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    folder = fresh.folder / "results/digits/seed=0"
    clipped, whole = (load(folder / recipe / "model.safetensors") for recipe in (CLIPPED, "hard"))
    for weight, before in zip(clipped.parameters(), whole.parameters(), strict=True):
        share = float(weight.detach().abs().max() / before.detach().abs().max())
        assert weight.dim() < 2 or share == pytest.approx(0.5)
    metrics = json.loads((folder / RECIPE / "metrics.json").read_text())
    assert metrics["recipe"] == RECIPE and metrics["nominal_bits"] == 4
    rows = {row["recipe"]: row for row in fresh.rows("table")}
    assert rows.keys() == {"hard", CLIPPED, RECIPE}
    assert (rows[CLIPPED]["kind"], rows[RECIPE]["network"]) == ("clip", CLIPPED)
    verified = command(fresh, "kdq.provenance.verify")
    assert (verified.returncode, not_fresh(verified)) == (0, set()), verified.stdout[-2000:] + verified.stderr
    assert fresh.plan() == set()
    with fresh.edited("kdq/clip/methods/limit.py", lambda text: text + "\nEDITED = 1\n"):
        planned = fresh.plan()
    assert f"results/digits/seed=0/{CLIPPED}/model.safetensors" in planned
    assert "results/digits/seed=0/hard/model.safetensors" not in planned
