"""The README's section on adding a method, followed to the letter."""

import json
import re
from pathlib import Path

README = Path(__file__).resolve().parents[2] / "README.md"


def test_one_file_and_one_recipe_make_a_method(finished):
    section = README.read_text().split("## Add a method")[1].split("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    file, recipe = re.search(r"As `(.*?)` this is the recipe `(.*?)`", section).groups()
    (finished.folder / file).write_text(code)
    assert finished.plan() == set(), "a new method must not touch what is there"
    cell = f"results/digits/seed=0/{recipe}"
    done = finished.run("--cores", "2", f"{cell}/metrics.json")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((finished.folder / cell / "metrics.json").read_text())
    assert metrics["recipe"] == recipe
    assert metrics["keys"]["weight"] == 2
    assert metrics["test"]["top1"] > 0.2
