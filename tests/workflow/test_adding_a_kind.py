"""A new kind of stage is a description, a folder, a rule and a script, and nothing else."""

import csv
import json

from kdq.models import load
from tests.workflow.test_adopt import command, not_fresh

KIND = """PRUNE = Kind("prune", "kdq.prune", "scripts/prune.py", inputs=("parent",))
KINDS = {kind.name: kind for kind in (ROOT, DISTILL, QUANTIZE, RETRAIN, PRUNE)}"""
FILES = {
    "kdq/prune/__init__.py": "",
    "kdq/prune/methods/__init__.py": "",
    "kdq/prune/keys.py": '''"""The keys that every stage which prunes has."""

SHARED_KEYS = ()
''',
    "kdq/prune/methods/magnitude.py": '''"""Magnitude: the smallest weights of a layer become zero."""

from kdq.recipe.vocabulary import Annotated, Base, Field


class Parameters(Base):
    """Pruning by magnitude."""

    share: Annotated[float, Field(ge=0, lt=1, description="share of a layer's weights that become zero")] = 0.5


def prune(weight, share):
    """Return ``weight`` with the given share of its entries, the smallest in magnitude, set to zero."""
    count = int(share * weight.numel())
    flat = weight.flatten().clone()
    flat[flat.abs().argsort()[:count]] = 0
    return flat.view_as(weight)
''',
    "scripts/prune.py": '''"""Set weights of the parent model to zero."""

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
    check_code(job["code"], "scripts/prune.py", *job["files"])
    parent = model_file.read(path)
    check_place(path, parent.header)
    network = model_file.to_network(parent, path)
    for parameter in network.parameters():
        if parameter.dim() > 1:
            parameter.data = module.prune(parameter.data, job["keys"]["share"])
    machine = {"threads": snakemake.threads, "device": device_name(prepare(snakemake.threads))}
    made_by = provenance.describe(job["code"], {"parent": path}, **machine)
    header = {**Cell.of(snakemake.output.model).identity, "keys": job["keys"], "provenance": made_by}
    model_file.save(snakemake.output.model, network, parent.header["architecture"], Codes(), **header)
''',
}
RULE = """

rule prune:
    input:
        parent=f"{PARENT}/model.safetensors",
    output:
        model="results/{dataset}/seed={seed}/{parent}/{stage}/model.safetensors",
    log:
        "logs/prune/{dataset}/seed={seed}/{parent}/{stage}.log",
    wildcard_constraints:
        stage=PLAN.stages_of("prune"),
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.job_of_stage("scripts/prune.py"),
    message:
        "Pruning {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}/{wildcards.stage}"
    shell:
        PLAN.command("scripts/prune.py", input="parent", output="model", wildcards="dataset seed parent stage")
"""
PRUNED = "hard/magnitude,share=0.5"
RECIPE = f"{PRUNED}/rtn,bits=4"


def add_kind(folder) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    kinds = folder / "kdq/recipe/kinds.py"
    text, table = kinds.read_text(), "KINDS = {kind.name: kind for kind in (ROOT, DISTILL, QUANTIZE, RETRAIN)}"
    assert table in text
    kinds.write_text(text.replace(table, KIND))
    rules = folder / "rules/quantize.smk"
    rules.write_text(rules.read_text() + RULE)


def test_a_description_a_folder_a_rule_and_a_script_make_a_kind(fresh):
    add_kind(fresh.folder)
    fresh.configure({"recipes": [RECIPE]})
    done = fresh.run("--cores", "2")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    folder = fresh.folder / "results/digits/seed=0"
    pruned = load(folder / PRUNED / "model.safetensors")
    zeros = [float((weight == 0).float().mean()) for weight in pruned.parameters() if weight.dim() > 1]
    assert min(zeros) >= 0.49
    metrics = json.loads((folder / RECIPE / "metrics.json").read_text())
    assert metrics["recipe"] == RECIPE and metrics["nominal_bits"] == 4
    with open(fresh.folder / "results/studies/overlay/table.csv") as file:
        rows = {row["recipe"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {"hard", PRUNED, RECIPE}
    assert (rows[PRUNED]["kind"], rows[RECIPE]["network"]) == ("prune", "hard")
    verified = command(fresh, "kdq.provenance.verify")
    assert (verified.returncode, not_fresh(verified)) == (0, set()), verified.stdout[-2000:] + verified.stderr
    assert fresh.plan() == set()
    with fresh.edited("kdq/prune/methods/magnitude.py", lambda text: text + "\nEDITED = 1\n"):
        planned = fresh.plan()
    assert f"results/digits/seed=0/{PRUNED}/model.safetensors" in planned
    assert "results/digits/seed=0/hard/model.safetensors" not in planned
