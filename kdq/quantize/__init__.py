"""The quantizers; called, the package quantizes a network: ``kdq.quantize(network, images, bits=4)``.

The call is :func:`kdq.library.quantize`, see ``help(kdq.library.quantize)``.
"""

import importlib
import inspect
import sys
from types import ModuleType


class _Package(ModuleType):
    """A package that can be called. What it calls is imported by name: no job's fingerprint depends on it."""

    def __call__(self, *arguments, **keywords):
        return importlib.import_module("kdq.library").quantize(*arguments, **keywords)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(importlib.import_module("kdq.library").quantize)


sys.modules[__name__].__class__ = _Package
