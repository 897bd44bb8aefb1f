"""Atomic files, whole or absent: written aside, synced to disk, renamed; sealed JSON, CSV and safetensors."""

import contextlib
import errno
import glob
import hashlib
import json
import os
import re
import uuid
from pathlib import Path

from kdq.errors import UserError, shown
from kdq.provenance import seal
from kdq.provenance.regular_file import check_regular
from kdq.workflow.signals import defer_sigterm

COMMENT = "# "  # begins the header of a CSV file
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


@contextlib.contextmanager
def atomic(path, *, alone: bool = True):
    """Yield a path beside ``path`` to write to; on success sync it and rename it to ``path``.

    A reader sees the old file or the new one, never a part, even after a power cut: the data is on disk before the
    name is. If the block raises, ``path`` stays as it was and the file aside is removed. A file aside that a killed job
    left is removed too if this job writes ``alone``, that is if no other may write ``path`` at the same time. Raise
    UserError if the disk is full or not writable.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid() if alone else uuid.uuid4().hex}")
    _check_free(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if alone:
            for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
                with contextlib.suppress(IsADirectoryError):
                    left.unlink(missing_ok=True)
        yield aside
        with open(aside, "rb") as file:
            os.fchmod(file.fileno(), 0o666 & ~_umask())  # safetensors lets only the owner read; results are shared
            os.fsync(file.fileno())
        os.replace(aside, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except Exception as error:
        if reason := refusal(error):
            raise UserError(f"{path}: can't be written ({reason}); see to that and start again") from None
        raise
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def _check_free(path: Path) -> None:
    """Raise UserError if a folder is in the place of a file that is to be written, or a file in that of its folder."""
    if path.is_dir() and not path.is_symlink():
        raise UserError(f"{path}: found a folder in the place of this file; remove it and start again")
    for folder in path.parents:
        if folder.exists():
            if not folder.is_dir():
                raise UserError(f"{path}: {folder} is no folder; remove it and start again")
            return


def refusal(error: BaseException | None) -> str:
    """Return the operating system's message if ``error`` is a failed write, else "".

    Libraries wrap the system's error in theirs, or only quote its number.
    """
    while error is not None:
        quoted = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(quoted[1]) if quoted else None
        if number in REFUSALS:
            return os.strerror(number)
        error = error.__cause__ or error.__context__
    return ""


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256(path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits; raise UserError if it is no regular file."""
    check_regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path, value: dict, *, alone: bool = True) -> None:
    """Write ``value`` as indented JSON with sorted keys and a seal; equal values give equal bytes.

    ``alone`` as for :func:`atomic`.
    """
    sealed = {**value, seal.KEY: seal.BLANK}
    with atomic(path, alone=alone) as aside:
        aside.write_bytes((json.dumps(sealed, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())
        seal.seal(aside)


def read_json(path, *, sealed: bool = False) -> dict:
    """Return the object that :func:`write_json` wrote; raise UserError for a missing, corrupted or foreign file.

    With ``sealed`` also for a file without a seal, which an earlier version made: it can't be checked.
    """
    check_regular(path)
    try:
        value = json.loads(Path(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: found no JSON object, expected one")
    return _unsealed(path, value, sealed)


def _unsealed(path, value: dict, required: bool) -> dict:
    """Return ``value`` without its seal; raise UserError if the seal is broken or, if ``required``, missing."""
    if seal.KEY in value:
        seal.check(path, value.pop(seal.KEY))
    elif required:
        raise UserError(f"{path}: has no seal, so nothing tells whether it is whole; remove it and run again")
    return value


def checked(path, model, values: dict):
    """Return ``values`` of a file as the pydantic ``model``; raise UserError for the first missing or invalid one."""
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {key}: {first['msg'].lower()}, found {shown(first['input'])}") from None


def write_tensors(path, tensors, header: dict) -> None:
    """Write a safetensors file whose metadata is the one key ``kdq``, a JSON object, and seal it.

    Equal content gives equal bytes.
    """
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic(path) as aside:
        with defer_sigterm():
            save_file(contiguous, aside, metadata=header_text(header))
        seal.seal(aside)


def write_table(path, text: str, header: dict) -> None:
    """Write the CSV ``text`` below one line of comment, the header as JSON, and seal it."""
    with atomic(path) as aside:
        head = json.dumps({**header, seal.KEY: seal.BLANK}, sort_keys=True)
        aside.write_bytes(f"{COMMENT}{head}\n{text}".encode())
        seal.seal(aside)


def read_table(path, form: str) -> tuple[dict, str]:
    """Return the header and the text that :func:`write_table` wrote, of the format ``form``; raise UserError if not."""
    check_regular(path)
    try:
        first, _, text = Path(path).read_bytes().decode().partition("\n")
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as a table ({error})") from None
    header = None
    with contextlib.suppress(ValueError, RecursionError):
        header = json.loads(first.removeprefix(COMMENT)) if first.startswith(COMMENT) else None
    if not isinstance(header, dict):
        raise UserError(f"{path}: has no header, expected a first line {COMMENT}{{...}}; remove the file and run again")
    return _checked_header(path, header, (form,), sealed=True), text


def _checked_header(path, header, forms: tuple[str, ...], sealed: bool) -> dict:
    """Return ``header`` without its seal; raise UserError if it is of none of the formats or the seal is broken."""
    found = header.get("format") if isinstance(header, dict) else None
    if found not in forms:
        raise UserError(f"{path}: format {found!r}, expected {' or '.join(map(repr, forms))}")
    return _unsealed(path, header, sealed)


def header_text(header: dict) -> dict[str, str]:
    """Return a header for safetensors, with a blank seal: a single key, since the order of several is not fixed."""
    return {"kdq": json.dumps({**header, seal.KEY: seal.BLANK}, sort_keys=True)}


def read_header(path, *forms: str, sealed: bool = False) -> dict:
    """Return the header that :func:`write_tensors` wrote; raise UserError as :func:`read_json` does. Imports no torch.

    ``forms`` are the accepted values of the header's key ``format``, at least one.
    """
    from safetensors import SafetensorError, safe_open

    check_regular(path)
    if not Path(path).exists():
        raise UserError(f"{path}: no such file")
    try:
        with defer_sigterm(), safe_open(path, "np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({error})") from None
    try:
        header = json.loads(metadata["kdq"])
    except KeyError:
        raise UserError(f"{path}: a foreign safetensors file, without the metadata key 'kdq'") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: the metadata key 'kdq' is not JSON ({error})") from None
    return _checked_header(path, header, forms, sealed)


def read_tensors(path, form: str):
    """Return header and tensors of a file that :func:`write_tensors` wrote; the tensors are on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    header = read_header(path, form)
    try:
        with defer_sigterm():
            return header, load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path}: corrupted ({error})") from None
