"""A new file per model is a rule, a script and an entry in the table of products, and nothing else."""

import contextlib
import textwrap

import pytest

from tests.workflow.test_adopt import command
from tests.workflow.test_reruns import appended

SCRIPT = '''
"""List the quantized layers of a model with their bits."""

from kdq.workflow.job import check_code, running

with running(snakemake.log[0]) as log:
    from kdq.provenance import formats
    from kdq.provenance.files import read_header, sha256, write_json
    from kdq.provenance.place import check_place
    from kdq.recipe.path import Cell

    job, model, path = snakemake.params.job, snakemake.input.model, snakemake.output.layers
    check_code(job["code"], "scripts/layers.py", *job["files"])
    header = read_header(model, formats.MODEL)
    check_place(model, header)
    bits = {name: layer["bits"] for name, layer in header["layers"].items()}
    made_by = {"code": job["code"], "inputs": {"model": sha256(model)}}
    write_json(path, {**Cell.of(path).identity, "bits": bits, "provenance": made_by})
'''
RULE = """

rule layers:
    input:
        model=f"{PARENT}/model.safetensors",
    output:
        layers=f"{PARENT}/layers.json",
    log:
        "logs/layers/{dataset}/seed={seed}/{parent}.log",
    conda:
        "../envs/kdq.yaml"
    params:
        job=PLAN.script_job("scripts/layers.py"),
    message:
        "Listing the layers of {wildcards.dataset} seed {wildcards.seed}: {wildcards.parent}"
    shell:
        PLAN.command("scripts/layers.py", input="model", output="layers")
"""
ENTRY = """    Entry(
        rules=("layers",),
        script="scripts/layers.py",
        files={"layers.json": formats.JSON},
        inputs={"model": _model},
    ),
)
COPIED ="""
CELL = "results/digits/seed=0/teacher/kd/gpfq,bits=3"
LAYERS = f"{CELL}/layers.json"


@pytest.fixture
def extended(finished):
    """The finished study with the new file's rule, script and entry."""
    script = finished.folder / "scripts/layers.py"
    script.write_text(textwrap.dedent(SCRIPT).lstrip())
    with contextlib.ExitStack() as edits:
        edits.callback(script.unlink)
        edits.callback((finished.folder / LAYERS).unlink, missing_ok=True)
        edits.enter_context(finished.edited("rules/evaluate.smk", appended(RULE)))
        edits.enter_context(
            finished.edited("kdq/study/products.py", lambda text: text.replace(")\nCOPIED =", ENTRY, 1))
        )
        yield finished


def verdict(workflow) -> str:
    """What verify prints for the new file."""
    lines = command(workflow, "kdq.provenance.verify").stdout.splitlines()
    return next(line for line in lines if line.split()[1] == LAYERS)


def test_a_rule_a_script_and_an_entry_make_a_file(extended):
    assert extended.plan() == set(), "a new file must not touch what is there"
    done = extended.run("--cores", "1", f"{CELL}/layer.json")
    assert done.returncode != 0 and "did you mean 'layers.json'" in done.stderr
    assert extended.plan(LAYERS) == {LAYERS}
    done = extended.run("--cores", "1", LAYERS)
    assert done.returncode == 0, done.stderr
    assert verdict(extended).startswith("fresh ")

    file = extended.folder / LAYERS
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b": 3,", b": 2,", 1))
    assert verdict(extended).startswith("corrupt ")
    file.write_bytes(whole)
    with extended.edited("kdq/distill/methods/kd.py", appended("EDITED = 1")):
        assert verdict(extended).startswith("stale ") and f"model {CELL}/model.safetensors is stale" in verdict(
            extended
        )
        assert LAYERS in extended.plan(LAYERS)
    assert verdict(extended).startswith("fresh ")
