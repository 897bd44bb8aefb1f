"""The section on adding a quantizer in docs/extending.md, followed to the letter."""

import json
import re
from pathlib import Path

from kdq.models import file as model_file

EXTENDING = Path(__file__).resolve().parents[2] / "docs/extending.md"


def test_one_file_makes_a_quantizer(finished):
    section = EXTENDING.read_text().split("## A quantizer")[1].split("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    file, recipe = re.search(r"As `(.*?)` this is the recipe `(.*?)`", section).groups()
    (finished.folder / file).write_text(code)
    assert finished.plan() == set(), "a new quantizer must not touch what is there"
    cell = f"results/digits/seed=0/{recipe}"
    done = finished.run("--cores", "2", f"{cell}/metrics.json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((finished.folder / cell / "metrics.json").read_text())
    assert (metrics["recipe"], metrics["keys"]["offset"], metrics["nominal_bits"]) == (recipe, 0.3, 4)
    assert metrics["test"]["top1"] > 0.2
    codes = model_file.read(finished.folder / cell / "model.safetensors").codes
    plain = model_file.read(finished.folder / "results/digits/seed=0/hard/rtn,bits=4/model.safetensors").codes
    assert codes.keys() == plain.keys() and any(not codes[name].codes.equal(plain[name].codes) for name in codes)


def test_every_test_of_an_addition_is_named():
    named = set(re.findall(r"`(test_adding_a_\w+\.py)`", EXTENDING.read_text()))
    assert named >= {path.name for path in Path(__file__).parent.glob("test_adding_a_*.py")}
