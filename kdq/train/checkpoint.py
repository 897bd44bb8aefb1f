"""One atomic checkpoint per epoch; only a run with the same identity resumes from it.

A file of torch followed by its SHA-256: torch itself reads a damaged tensor without an error.
"""

import hashlib
import io
import json
from pathlib import Path

import torch

from kdq.errors import shown
from kdq.provenance.files import atomic, sha256
from kdq.provenance.regular_file import check_regular

MOST_CHANGES = 3  # that a line of the log names


def save(path, state: dict) -> None:
    """Write ``state`` (tensors and plain values) atomically: aside, synced, renamed."""
    with atomic(path) as aside:
        with open(aside, "wb") as file:
            torch.save(state, file)
        checksum = sha256(aside)
        with open(aside, "ab") as file:
            file.write(bytes.fromhex(checksum))


def load(path, identity: str, log) -> dict | None:
    """Return the state saved by a run of the same ``identity``; if there is none, log why and return None.

    A run on another kind of machine is another run: on neither could the bytes of a training on both be repeated. Raise
    UserError if ``path`` is no regular file, which the first checkpoint would replace or fail to.
    """
    path = Path(path)
    check_regular(path)
    if not path.exists():
        return None
    try:
        state = torch.load(io.BytesIO(_checked(path.read_bytes())), map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:  # torch raises many kinds for a damaged file; starting over is right for all of them
        reason = str(error) or type(error).__name__  # the error of an empty file has no message
        log(f"{path}: not readable as a checkpoint ({reason.splitlines()[0]}); starting over")
        return None
    if found != identity:
        log(f"{path}: of another run ({_changes(found, identity)}); starting over")
        return None
    log(f"{path}: going on after epoch {state['epoch']}")
    return state


def _changes(found: str, identity: str) -> str:
    """Return what two identities, texts of :func:`kdq.provenance.describe.identity`, differ in."""
    try:
        before, now = (dict(_leaves(json.loads(text))) for text in (found, identity))
    except (TypeError, ValueError):
        return "an earlier version's"
    changes = [
        f"{name} {shown(before.get(name))} -> {shown(now.get(name))}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    more = f"; and {len(changes) - MOST_CHANGES} more" if len(changes) > MOST_CHANGES else ""
    return "; ".join(changes[:MOST_CHANGES]) + more


def _leaves(value, name: str = ""):
    """Yield name and value of all that is no mapping: ``inputs.data`` for a mapping in a mapping."""
    if not isinstance(value, dict):
        yield name, value
        return
    for key, below in value.items():
        yield from _leaves(below, f"{name}.{key}" if name else key)


def _checked(content: bytes) -> memoryview:
    """Return the content without its checksum; raise ValueError if the checksum does not match."""
    size = hashlib.sha256().digest_size
    state = memoryview(content)[:-size]
    if hashlib.sha256(state).digest() != content[-size:]:
        raise ValueError("its content is not what was written")
    return state
