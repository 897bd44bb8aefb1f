"""The provenance of a result, in a form that can be compared."""

import json
import platform

from kdq.provenance.files import sha256


def describe(code: str, inputs: dict[str, str], **machine) -> dict:
    """Return fingerprint of the code, SHA-256 of each input file, versions, and what of the ``machine`` counts.

    ``inputs`` maps a role (data, parent) to a path. Of the machine ``threads`` and ``device`` count, and in training
    the resolved ``precision``. Time and host name are left out: equal runs give equal bytes.
    """
    import torch

    return {
        "code": code,
        "inputs": {role: sha256(path) for role, path in sorted(inputs.items())},
        **machine,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def identity(**facts) -> str:
    """Return plain values as one text, equal for runs that must give equal results."""
    return json.dumps(facts, sort_keys=True)
