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
    plain, bound = weakref.WeakKeyDictionary(), weakref.WeakKeyDictionary()  # those of a method are without self

    def parameters(function):
        definition = getattr(function, "__func__", function)
        if not isinstance(definition, types.FunctionType):
            return inspect(function)
        known = plain if definition is function else bound
        if definition not in known:
            known[definition] = inspect(function)
        return known[definition]

    return parameters
