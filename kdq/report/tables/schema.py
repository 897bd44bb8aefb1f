"""The schema of a table: the type, unit and meaning of each column; tables are CSV files, in memory DataFrames."""

import csv
from dataclasses import dataclass
from functools import partial

import pandas as pd

from kdq.errors import UserError, nearest, shown
from kdq.provenance.files import atomic, check_regular

NUMBER = r"-?\d{1,30}(\.\d+)?(e[+-]\d{1,2})?"
TYPES = {  # the dtype, the fields that are allowed, and these in words
    "text": ("str", "(?s:.+)", "text"),
    "count": ("Int64", r"-?\d{1,18}", "a whole number"),
    "bits": ("float64", NUMBER, "a number"),  # whole, or a mean
    "number": ("float64", NUMBER, "a number"),
    "truth": ("boolean", "true|false", "true or false"),
}


@dataclass(frozen=True)
class Column:
    """A column of one of ``TYPES``; an ``optional`` one may have empty fields."""

    type: str
    meaning: str
    unit: str = ""
    optional: bool = False


text, count, number, truth = (partial(Column, name) for name in ("text", "count", "number", "truth"))
share = partial(Column, "number", unit="share of 1")
bits_per_weight = partial(Column, "bits", unit="bits per weight")


@dataclass(frozen=True)
class Schema:
    """A table ``results/NAME.csv``: what its rows are, its columns in order, and the format of its numbers."""

    name: str
    rows: str
    columns: dict[str, Column]
    form: str = ".6f"

    def frame(self, rows) -> pd.DataFrame:
        """Return the typed DataFrame of ``rows``, dictionaries or a DataFrame; a column that they lack is empty."""
        frame = pd.DataFrame(rows, columns=list(self.columns))
        return frame.astype({name: TYPES[column.type][0] for name, column in self.columns.items()})

    def write(self, path, frame: pd.DataFrame) -> None:
        """Write ``frame`` as CSV with an empty field for a missing value; equal frames give equal bytes."""
        fields = frame[list(self.columns)].copy()
        for name, column in self.columns.items():
            if column.type == "truth":
                fields[name] = fields[name].map({True: "true", False: "false"})
            elif column.type == "bits":
                fields[name] = [format(bits, ".0f" if bits.is_integer() else self.form) for bits in fields[name]]
        with atomic(path) as aside:
            fields.to_csv(aside, index=False, lineterminator="\n", float_format=f"%{self.form}", encoding="utf-8")

    def read(self, path) -> pd.DataFrame:
        """Return the table in the file ``path``; raise UserError if it is not of this schema."""
        check_regular(path)
        try:
            with open(path, newline="", encoding="utf-8") as file:
                names, *rows = csv.reader(file, strict=True)
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(f"{path}: not readable as a table of this workflow ({error})") from None
        self._check_shape(path, names, rows)
        fields = pd.DataFrame(rows, columns=names, dtype="str")
        for name, column in self.columns.items():
            _, pattern, expected = TYPES[column.type]
            allowed = fields[name].str.fullmatch(pattern) | (column.optional & (fields[name] == ""))
            if not allowed.all():
                line, value = allowed.argmin() + 2, shown(fields[name][allowed.argmin()])
                raise UserError(f"{path}: column {name!r}, row {line}: found {value}, expected {expected}")
            if column.type == "truth":
                fields[name] = fields[name].map({"true": True, "false": False})
        return self.frame(fields.where(fields != ""))

    def _check_shape(self, path, names: list[str], rows: list[list[str]]) -> None:
        for name in names:
            if name not in self.columns:
                raise UserError(f"{path}: unknown column {shown(name)}{nearest(name, self.columns)}")
        if missing := [name for name in self.columns if name not in names]:
            raise UserError(f"{path}: column {missing[0]!r}: missing, expected those of {self.name}.csv")
        for number, row in enumerate([names, *rows], 1):
            if len(row) != len(self.columns):
                raise UserError(f"{path}: row {number}: found {len(row)} fields, expected {len(self.columns)}")
