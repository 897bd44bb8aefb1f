"""Files that are whole or absent: written aside, synced to disk, renamed."""

import contextlib
import glob
import hashlib
import json
import os
from pathlib import Path

from kdq.errors import UserError


@contextlib.contextmanager
def atomic(path):
    """Yield a path beside ``path`` to write to; on success it is synced and takes the place of ``path``.

    A reader sees the old file or the new one, never a part, even after a power cut: the data is on disk before the
    name is. When the block raises, ``path`` stays as it was and the file aside is removed; one that a killed job left
    is removed by the next, as jobs that make the same file exclude each other.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        left.unlink(missing_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # safetensors writes for the owner alone; results are shared
            os.fsync(file.fileno())
        os.replace(aside, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        aside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(path) -> str:
    """SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path, value) -> None:
    """Write ``value`` as indented JSON with sorted keys; the same value gives the same bytes."""
    with atomic(path) as aside:
        aside.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_tensors(path, tensors, header: dict) -> None:
    """Write a safetensors file whose metadata is the one key ``kdq``, a JSON object.

    One key, because safetensors writes several in no fixed order, and equal content must give equal bytes.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as aside:
        save_file(contiguous, aside, metadata={"kdq": json.dumps(header, sort_keys=True)})


def read_header(path, form: str) -> dict:
    """The header that :func:`write_tensors` wrote; raises UserError for a missing, corrupted or foreign file."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise UserError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        header = json.loads(metadata["kdq"])
    except KeyError:
        raise UserError(f"{path}: a foreign safetensors file, without the metadata key 'kdq'") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: the metadata key 'kdq' is not JSON ({error})") from None
    found = header.get("format") if isinstance(header, dict) else None
    if found != form:
        raise UserError(f"{path}: format {found!r}, expected {form!r}")
    return header


def read_tensors(path, form: str):
    """``(header, tensors)`` of a file that :func:`write_tensors` wrote; the tensors are on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header = read_header(path, form)
    try:
        return header, load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: corrupted ({error})") from None
