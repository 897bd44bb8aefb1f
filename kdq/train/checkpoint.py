"""One atomic checkpoint per epoch; only a run with the same identity resumes from it.

A file of torch followed by its SHA-256: torch itself reads a damaged tensor without an error.
"""

import hashlib
import io
from pathlib import Path

import torch

from kdq.provenance.files import atomic, sha256


def save(path, state: dict) -> None:
    """Write ``state`` (tensors and plain values) atomically: aside, synced, renamed."""
    with atomic(path) as aside:
        with open(aside, "wb") as file:
            torch.save(state, file)
        checksum = sha256(aside)
        with open(aside, "ab") as file:
            file.write(bytes.fromhex(checksum))


def load(path, identity: str, log) -> dict | None:
    """Return the state saved by a run of the same ``identity``; if there is none, log why and return None."""
    path = Path(path)
    if not path.is_file():
        return None
    try:
        state = torch.load(io.BytesIO(_checked(path.read_bytes())), map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:  # torch raises many kinds for a damaged file; starting over is right for all of them
        reason = str(error) or type(error).__name__  # the error of an empty file has no message
        log(f"{path}: not readable as a checkpoint ({reason.splitlines()[0]}); starting over")
        return None
    if found != identity:
        log(f"{path}: of another run (parameters, code, data or parent changed); starting over")
        return None
    log(f"{path}: going on after epoch {state['epoch']}")
    return state


def _checked(content: bytes) -> memoryview:
    """Return the content without its checksum; raise ValueError if the checksum does not match."""
    size = hashlib.sha256().digest_size
    state = memoryview(content)[:-size]
    if hashlib.sha256(state).digest() != content[-size:]:
        raise ValueError("its content is not what was written")
    return state
