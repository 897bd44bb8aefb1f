"""The page ``docs/table.md``, which describes the columns of all tables, written from their schemas."""

from pathlib import Path

from kdq.report.tables import cells, comparisons, deployment, layers, sensitivities, sequences, summary
from kdq.report.tables.schema import Schema

INTRODUCTION = """# The columns of the tables

Written by `make docs` from the schemas in `kdq/report/tables`; edit those.

The tables of a study are in `results/studies/<study>/`.

A `count` is a whole number, a `number` has six decimals (six significant digits in `sensitivity.csv`), `bits` are whole
or a mean with six decimals, a `truth` is `true` or `false`. A field is empty if its column does not apply.
"""
SCHEMAS = [module.SCHEMA for module in (cells, summary, layers, sensitivities, comparisons, sequences, deployment)]


def documentation() -> str:
    """Return the text of the page."""
    return "\n".join([INTRODUCTION, *map(_section, SCHEMAS)])


def _section(schema: Schema) -> str:
    head = f"## `{schema.name}.csv`: {schema.rows}\n\n| column | type | unit | meaning |\n|---|---|---|---|\n"
    columns = (f"| `{name}` | {of.type} | {of.unit} | {of.meaning} |\n" for name, of in schema.columns.items())
    return head + "".join(columns)


if __name__ == "__main__":
    Path("docs/table.md").write_text(documentation(), encoding="utf-8")
    print("docs/table.md")
