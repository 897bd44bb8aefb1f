"""KDQ: distillation and quantization of image classifiers.

Quantize a network of your own, see docs/library.md:

    quantized = kdq.quantize(network, images, method="gpfq", bits=4, activations=8)
    kdq.save("model.safetensors", quantized)
    network = kdq.load("model.safetensors", into=MyNetwork())
    kdq.export(quantized, "model.onnx")

Names are imported when they are used: planning a study imports this package, but no torch.
"""

import importlib
import importlib.util

_LIBRARY = ("QuantizedNetwork", "UserError", "export", "load", "save")  # `quantize` is the package of that name, called


def __getattr__(name: str):
    # By name: what an import statement names belongs to the fingerprint of every job.
    if name in _LIBRARY:
        return getattr(importlib.import_module("kdq.library"), name)
    if name == "__version__":
        return importlib.import_module("kdq.version").version()
    if not name.startswith("_") and importlib.util.find_spec(f"{__name__}.{name}"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LIBRARY, "__version__", "quantize"})
