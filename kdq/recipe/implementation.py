"""Lookup of the class that a stage's file implements: methods are found without a registry."""

import importlib
import inspect


def declared_class(module: str, base: type) -> type:
    """Return the one subclass of ``base`` that ``module`` defines; raise TypeError if there are none or several."""
    classes = [
        value
        for _, value in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if issubclass(value, base) and value.__module__ == module
    ]
    if len(classes) != 1:
        raise TypeError(f"{module}: found {len(classes)} classes derived from {base.__name__}, expected one")
    return classes[0]
