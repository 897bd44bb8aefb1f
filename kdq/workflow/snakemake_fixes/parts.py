"""Access to parts of libraries that the next release may move or rename."""

import importlib


def part(module: str, name: str = ""):
    """Return a module, or its attribute ``name``; None if there is none."""
    try:
        imported = importlib.import_module(module)
    except ImportError:
        return None
    return getattr(imported, name, None) if name else imported
