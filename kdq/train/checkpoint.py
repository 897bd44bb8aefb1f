"""One checkpoint an epoch, whole or absent, and only ever believed by the run that wrote it.

A file of torch with the SHA-256 of all before it at its end: torch itself reads a damaged tensor without a word.
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
    """The state saved by a run of the same ``identity``, or None, saying why, where there is none to go on from."""
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
    """The content without its checksum; raises ValueError where that is another."""
    size = hashlib.sha256().digest_size
    state = memoryview(content)[:-size]
    if hashlib.sha256(state).digest() != content[-size:]:
        raise ValueError("its content is not what was written")
    return state
