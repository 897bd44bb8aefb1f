"""The section on adding a quantizer in docs/extending.md, followed to the letter."""

import ast
import json
import re
from pathlib import Path

import pytest

from kdq.models import file as model_file
from kdq.provenance.fingerprint import canonical, parse

HOME = Path(__file__).resolve().parents[2]
TEXT = (HOME / "docs/extending.md").read_text()
SECTION = TEXT.split("## A quantizer")[1].split("\n## ")[0]
CODE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL).group(1)


def test_one_file_makes_a_quantizer(finished):
    file, recipe = re.search(r"As `(.*?)` this is the recipe `(.*?)`", SECTION).groups()
    (finished.folder / file).write_text(CODE)
    assert finished.plan() == set(), "a new quantizer must not touch what is there"
    cells = finished.folder / "results/digits/seed=0"
    done = finished.run("--cores", "2", f"results/digits/seed=0/{recipe}/metrics.json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((cells / recipe / "metrics.json").read_text())
    assert (metrics["recipe"], metrics["nominal_bits"]) == (recipe, 4)
    codes, expected = (
        model_file.read(cells / name / "model.safetensors").codes for name in (recipe, "hard/rtn,bits=4")
    )
    assert codes.keys() == expected.keys() and all(codes[name].codes.equal(expected[name].codes) for name in codes)


@pytest.mark.smoke
def test_the_example_is_rtn():
    rtn = parse(HOME / "kdq/quantize/methods/rtn.py")
    assert canonical(ast.parse(CODE)) == canonical(rtn), "docs/extending.md shows another rtn.py"


@pytest.mark.smoke
def test_every_test_of_an_addition_is_named():
    named = set(re.findall(r"`(test_adding_a_\w+\.py)`", TEXT))
    assert named == {path.name for path in Path(__file__).parent.glob("test_adding_a_*.py")}
