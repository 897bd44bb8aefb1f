"""Where an imported root comes from: a module per value of the key ``source``, which is found by its name.

Its function ``load(prepared, keys, log)`` returns ``(network, architecture, files by role)``. No other root's
fingerprint depends on it.
"""

import importlib
from collections.abc import Callable

MODULES = {
    "hub": "kdq.roots.sources.hub",
    "transformers": "kdq.roots.sources.huggingface",
    "kdq": "kdq.roots.sources.own_file",
    "library": "kdq.roots.sources.library",
}


def importer(source: str) -> Callable:
    """Return the function that imports a network from ``source``."""
    return importlib.import_module(MODULES[source]).load
