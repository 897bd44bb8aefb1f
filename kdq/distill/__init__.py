"""Distillation: methods, losses, and the stage that trains a student."""

import importlib


def __getattr__(name: str):
    if name in ("losses", "methods"):  # by name: no job depends on the losses of all methods
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
