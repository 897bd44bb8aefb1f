"""The one class of a kind that a stage's file declares: how a trainer finds a method without a registry."""

import importlib
import inspect


def declared_class(module: str, base: type) -> type:
    """The subclass of ``base`` that the module ``module`` declares itself; raises TypeError where it is not one."""
    found = [
        kind
        for _, kind in inspect.getmembers(importlib.import_module(module), inspect.isclass)
        if issubclass(kind, base) and kind.__module__ == module
    ]
    if len(found) != 1:
        raise TypeError(f"{module}: found {len(found)} classes derived from {base.__name__}, expected one")
    return found[0]
