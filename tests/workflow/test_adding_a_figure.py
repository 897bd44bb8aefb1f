"""The figure of docs/extending.md: the plan draws it and makes the page that names it; the report has its caption."""

import re
from pathlib import Path

from tests.workflow.test_reruns import PAGE

EXTENDING = Path(__file__).resolve().parents[2] / "docs/extending.md"
SECTION = EXTENDING.read_text().split("## A figure")[1].split("\n## ")[0]
FIGURE = re.search(r"```python\n(.*?)```", SECTION, re.DOTALL).group(1)
PLACE = "results/studies/overlay/figures/digits/sizes"
MADE = {f"{PLACE}.{form}" for form in ("png", "svg", "json")}


def test_one_file_makes_a_figure(finished):
    file = finished.folder / "kdq/report/figures/sizes.py"
    file.write_text(FIGURE)
    try:
        assert finished.plan() == MADE | PAGE  # which names it
        done = finished.run("--cores", "1")
        assert done.returncode == 0, done.stderr
        assert (finished.folder / f"{PLACE}.png").stat().st_size > 5000
        assert finished.plan() == set()
        file.write_text(FIGURE.replace("range(len(rows))", "rows.recipe"))
        assert finished.plan() == MADE, "an edit of a figure redraws that figure alone"
        done = finished.run("--report", "report.html")
        assert done.returncode == 0, done.stderr
        page = (finished.folder / "report.html").read_text()
        assert "Sizes of files" in page and "one bar per recipe" in page and "Accuracy against bits" in page
    finally:
        for path in (file, finished.folder / "report.html", *(finished.folder / made for made in MADE)):
            path.unlink(missing_ok=True)
