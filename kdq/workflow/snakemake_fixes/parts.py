"""Access to parts of libraries that the next release may move or rename."""

import importlib


def part(module: str, name: str = ""):
    """Return a module, or its attribute ``name``; None if there is none."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    return getattr(found, name, None) if name else found
