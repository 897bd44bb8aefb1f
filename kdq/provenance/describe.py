"""What a result was made from, in a form that can be compared."""

import hashlib
import json
import platform

from kdq.provenance.files import sha256


def describe(code: str, inputs: dict[str, str], *, threads: int, device: str) -> dict:
    """The provenance of a result: fingerprint of the code, SHA-256 of each input file, what it ran on.

    ``inputs`` maps a role (data, parent) to a path. No time and no host name: equal runs give equal bytes.
    """
    import torch

    return {
        "code": code,
        "inputs": {role: sha256(path) for role, path in sorted(inputs.items())},
        "threads": threads,
        "device": device,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def identity(**facts) -> str:
    """A digest of plain values: equal for runs that must give equal results."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
