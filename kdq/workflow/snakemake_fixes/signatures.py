"""Snakemake inspects the signatures of the same few functions some ten times per job: a tenth of planning."""

import types
import weakref

METHOD = "get_function_params"  # of snakemake.common, imported by name in snakemake.rules


def cache_signatures(*modules) -> None:
    """Remember the parameters of plain functions and of methods. No-op for a module without the function."""
    for module in modules:
        original = getattr(module, METHOD, None)
        if original is not None:
            setattr(module, METHOD, _cached(original))


def _cached(inspect):
    functions, methods = weakref.WeakKeyDictionary(), weakref.WeakKeyDictionary()

    def parameters(function):
        if isinstance(function, types.FunctionType):
            known, key = functions, function
        elif isinstance(function, types.MethodType) and isinstance(function.__func__, types.FunctionType):
            known, key = methods, function.__func__
        else:
            return inspect(function)
        if key not in known:
            known[key] = inspect(function)
        return known[key]

    return parameters
