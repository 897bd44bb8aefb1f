"""The schema of a table: the type, unit and meaning of each column; tables are CSV files, in memory DataFrames."""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdq.errors import UserError, nearest, shown
from kdq.provenance.files import atomic

if TYPE_CHECKING:
    import pandas as pd

Type = Literal["text", "count", "bits", "number", "truth"]  # `bits` are whole, or a mean
DTYPES = {"text": "str", "count": "Int64", "bits": "float64", "number": "float64", "truth": "boolean"}
EXPECTED = {
    "text": "text",
    "count": "a whole number",
    "bits": "a number",
    "number": "a number",
    "truth": "true or false",
}
TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True)
class Column:
    """A column; an ``optional`` one has an empty field where it does not apply."""

    type: Type
    unit: str
    meaning: str
    optional: bool = False


@dataclass(frozen=True)
class Schema:
    """A table ``results/NAME.csv``: what its rows are, its columns in order, and the format of its numbers."""

    name: str
    rows: str
    columns: dict[str, Column]
    form: str = ".6f"

    def frame(self, rows) -> pd.DataFrame:
        """Return the typed DataFrame of ``rows``, dictionaries or a DataFrame that have all columns."""
        import pandas as pd

        frame = pd.DataFrame(rows, columns=list(self.columns))
        return frame.astype({name: DTYPES[column.type] for name, column in self.columns.items()})

    def write(self, path, frame: pd.DataFrame) -> None:
        """Write ``frame`` as CSV with an empty field for a missing value; equal frames give equal bytes."""
        fields = frame[list(self.columns)].copy()
        for name, column in self.columns.items():
            if column.type == "truth":
                fields[name] = fields[name].map({True: "true", False: "false"})
            elif column.type == "bits":
                fields[name] = fields[name].map(self._bits, na_action="ignore")
        with atomic(path) as aside:
            fields.to_csv(aside, index=False, lineterminator="\n", float_format=f"%{self.form}", encoding="utf-8")

    def _bits(self, bits: float) -> str:
        return format(bits, ".0f" if bits.is_integer() else self.form)

    def read(self, path) -> pd.DataFrame:
        """Return the table in the file ``path``; raise UserError if it is not of this schema."""
        try:
            with open(path, newline="", encoding="utf-8") as file:
                names, *rows = csv.reader(file, strict=True)
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: not readable as a table of this workflow ({error})") from None
        self._check_columns(path, names)
        for number, row in enumerate(rows, 2):
            if len(row) != len(names):
                raise UserError(f"{path}: row {number}: found {len(row)} fields, expected {len(names)}")
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        parsed = {
            name: [self._parse(path, name, number, field) for number, field in enumerate(fields, 2)]
            for name, fields in zip(names, columns, strict=True)
        }
        return self.frame([dict(zip(parsed, row, strict=True)) for row in zip(*parsed.values(), strict=True)])

    def _check_columns(self, path, names: list[str]) -> None:
        for name in names:
            if name not in self.columns:
                raise UserError(f"{path}: unknown column {shown(name)}{nearest(name, self.columns)}")
        if missing := [name for name in self.columns if name not in names]:
            raise UserError(f"{path}: column {missing[0]!r}: missing, expected those of {self.name}.csv")
        if len(names) > len(self.columns):
            raise UserError(f"{path}: found {len(names)} columns, expected {len(self.columns)}, each once")

    def _parse(self, path, name: str, number: int, field: str):
        column = self.columns[name]
        try:
            return None if column.optional and field == "" else parse(column.type, field)
        except (KeyError, ValueError):
            expected = EXPECTED[column.type]
            raise UserError(
                f"{path}: column {name!r}, row {number}: found {shown(field)}, expected {expected}"
            ) from None


def parse(form: Type, field: str):
    """Return the value of a field that is not empty; raise ValueError or KeyError if it is not of the type."""
    if form == "text" and field:
        return field
    if form == "truth":
        return TRUTHS[field]
    if form == "count" and re.fullmatch(r"-?\d{1,18}", field, re.ASCII):
        return int(field)
    if form in ("bits", "number") and math.isfinite(value := float(field)):
        return value
    raise ValueError
