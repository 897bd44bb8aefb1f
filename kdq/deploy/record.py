"""The record of an ONNX file: its bytes, its score, its input, the digests of what it was made from and of itself."""

from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.files import read_json, sha256
from kdq.provenance.place import check_place


def read(path, onnx) -> dict:
    """Return the record ``path`` of the ONNX file ``onnx`` beside it.

    Raise UserError if it is damaged or of another cell, or if the file is not the one that it was written for.
    """
    record = read_json(path, sealed=True)
    check_place(path, record)
    if list(record.get("outputs", {}).values()) != [sha256(onnx)]:
        raise UserError(f"{onnx}: its content is not the one that {Path(path).name} holds; remove both and run again")
    return record


def described_input(path, record: dict) -> str:
    """Return the type and shape of an image for the ONNX file of a record: ``float32,3,32,32``."""
    try:
        return ",".join([record["input"]["type"], *map(str, record["input"]["shape"])])
    except (KeyError, TypeError):
        raise UserError(f"{path}: holds no input with type and shape; remove it and run again") from None
