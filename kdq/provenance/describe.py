"""The provenance of a result, in a form that can be compared."""

import hashlib
import json
import platform

from kdq.provenance.files import sha256


def describe(code: str, inputs: dict[str, str], *, threads: int, device: str) -> dict:
    """Return fingerprint of the code, SHA-256 of each input file, threads, device and versions.

    ``inputs`` maps a role (data, parent) to a path. Time and host name are left out: equal runs give equal bytes.
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
    """Return a digest of plain values, equal for runs that must give equal results."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
