"""The page that describes the columns of the tables, written from the modules that make them."""

from pathlib import Path

from kdq.report.tables import cells as table
from kdq.report.tables import comparisons, layers, sensitivities, sequences, summary


def documentation() -> str:
    """The page ``docs/table.md``: every column of the table and of the summary in one line."""
    lines = [
        "# The columns of the tables",
        "",
        "Written by `make docs` from the modules of that name (`table.py` and so on) in `kdq/report`; edit those.",
        "",
        "Shares lie between 0 and 1, sizes are in bytes. A number that is no count has six decimals; a field is empty",
        "where a column does not apply.",
        "",
        "## `results/table.csv`: one row a cell, and one for every model that a cell descends from",
        "",
        *_column_table(table.COLUMNS),
        "",
        "## `results/summary.csv`: one row a data set and recipe, over all seeds",
        "",
        *_column_table(summary.COLUMNS),
        "",
        "## `results/layers.csv`: one row a quantized layer of a cell",
        "",
        *_column_table(layers.COLUMNS),
        "",
        "## `results/sensitivity.csv`: one row a layer and bit-width, where a budget or `order=greedy` asks for it",
        "",
        "Six significant digits. `results/<dataset>/seed=<n>/<recipe>/sensitivity.csv` has the rows of one network.",
        "",
        *_column_table(sensitivities.COLUMNS),
        "",
        "## `results/comparisons.csv`: one row a data set and pair of recipes",
        "",
        *_column_table(comparisons.COLUMNS),
        "",
        "## `results/sequences.csv`: at each number of bits the best sequence of stages against each other one",
        "",
        *_column_table(sequences.COLUMNS),
    ]
    return "\n".join(lines) + "\n"


def _column_table(columns: dict[str, str]) -> list[str]:
    return ["| column | meaning |", "|---|---|", *(f"| `{name}` | {text} |" for name, text in columns.items())]


if __name__ == "__main__":
    Path("docs/table.md").write_text(documentation())
    print("docs/table.md")
