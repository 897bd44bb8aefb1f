"""The history of a training: a CSV file, one row per epoch, and the digest that its model file holds."""

import csv
import hashlib
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance import formats
from kdq.provenance.files import atomic, read_header
from kdq.provenance.place import check_place
from kdq.provenance.regular_file import check_regular

# the header of the empty table of a network that was not trained here
COLUMNS = (
    *("epoch", "learning_rate", "loss_cross_entropy", "training_accuracy"),
    *("validation_accuracy", "training_flops"),
    *("images_per_second", "processor_seconds", "energy_joules", "peak_memory_bytes"),
)
# measured, so different in every run; the energy is empty if the machine does not tell it
MEASURED = ("images_per_second", "processor_seconds", "energy_joules", "peak_memory_bytes")
IN_EVERY = {"images_per_second", "peak_memory_bytes"}  # columns of the oldest histories too


def write(path, rows: list[dict]) -> str:
    """Write ``rows``, one per epoch, and return their digest."""
    with atomic(path) as aside:
        with open(aside, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        return digest(aside)


def digest(path) -> str:
    """Return the SHA-256 of a history with its measured fields blanked: equal runs have equal digests.

    Raise UserError if the columns are not a history's or a measured field is no number.
    """
    check_regular(path)
    try:
        names, *rows = (line.split(",") for line in Path(path).read_bytes().decode().split("\r\n"))
        measured = {name: names.index(name) for name in MEASURED if name in IN_EVERY.union(names)}
        for row in rows[:-1]:  # the last entry is empty: the text after the last line end
            for name, place in measured.items():
                float(row[place] or (0 if name == "energy_joules" else "nothing"))
                row[place] = ""
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not readable as the history of a training ({error})") from None
    return hashlib.sha256("\r\n".join(map(",".join, [names, *rows])).encode()).hexdigest()


def check(path) -> None:
    """Raise UserError if the model next to a history is of another cell or was saved with another history."""
    model = Path(path).with_name("model.safetensors")
    if not model.is_file():
        return
    header = read_header(model, formats.MODEL)
    check_place(model, header)
    if header.get("history") != digest(path):
        raise UserError(f"{path}: not the history that {model} was saved with; remove it, and both are made again")
