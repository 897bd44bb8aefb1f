"""What the key ``precision: auto`` was for the models of a table: the column ``auto_precision``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def joined(precisions: set) -> str | None:
    """Return the value of the column: ``bfloat16+float32`` for both, None for neither.

    >>> joined({"float32", "bfloat16", None})
    'bfloat16+float32'
    """
    return "+".join(sorted(precisions - {None})) or None


def among(values: pd.Series) -> set[str]:
    """Return the precisions in values of the column."""
    return {precision for value in values.dropna() for precision in value.split("+")}


def by_recipe(table: pd.DataFrame) -> dict[str, set[str]]:
    """Return the precisions of each recipe, under any seed."""
    return {recipe: among(values) for recipe, values in table.groupby("recipe").auto_precision}
