"""A figure is one file: the plan draws it, nothing else runs again, and the report shows its caption."""

FIGURE = '''"""Sizes of files.

The size of each model's file, a bar per recipe.
"""

from kdq.report.figures import Figure, style
from kdq.report.tables.summary import SCHEMA

FIGURE = Figure(shows="recipes", table="summary")
read = SCHEMA.read


def draw(summary, dataset):
    """Draw one data set's rows of the summary."""
    rows = summary[summary.dataset == dataset]
    with style.styled():
        figure = style.new_figure(style.WIDTH_INCHES, 3)
        figure.subplots().bar(range(len(rows)), rows.file_bytes_mean)
    return figure
'''
PLACE = "results/digits/figures/sizes"
MADE = {f"{PLACE}.{form}" for form in ("png", "svg", "json")}


def test_one_file_makes_a_figure(finished):
    file = finished.folder / "kdq/report/figures/sizes.py"
    file.write_text(FIGURE)
    try:
        assert finished.plan() == MADE
        done = finished.run("--cores", "1")
        assert done.returncode == 0, done.stderr
        assert (finished.folder / f"{PLACE}.png").stat().st_size > 5000
        assert finished.plan() == set()
        file.write_text(FIGURE.replace("range(len(rows))", "rows.recipe"))
        assert finished.plan() == MADE, "an edit of a figure redraws that figure alone"
        done = finished.run("--report", "report.html")
        assert done.returncode == 0, done.stderr
        page = (finished.folder / "report.html").read_text()
        assert "Sizes of files" in page and "a bar per recipe" in page and "Accuracy against bits" in page
    finally:
        for path in (file, finished.folder / "report.html", *(finished.folder / made for made in MADE)):
            path.unlink(missing_ok=True)
