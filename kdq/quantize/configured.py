"""The function by which a stage quantizes a layer."""


def quantizer_of(module, keys, seed: int):
    """The function of a stage's module: its ``quantizer``, or what its ``configured(keys, seed)`` returns."""
    return module.configured(keys, seed) if hasattr(module, "configured") else module.quantizer
