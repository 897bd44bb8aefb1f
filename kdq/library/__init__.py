"""KDQ as a library: quantize any network of PyTorch, save it, load it, export it.

All names here are also those of the package: ``kdq.quantize``, ``kdq.save``, ``kdq.load``, ``kdq.export``. Nothing but
torch, numpy, safetensors and pydantic has to be installed; ``kdq.export`` needs ``pip install 'kdq[export]'``.
"""

from kdq.errors import UserError
from kdq.library.files import load, save
from kdq.library.network import QuantizedNetwork
from kdq.library.onnx_export import export
from kdq.library.quantization import quantize

__all__ = ["QuantizedNetwork", "UserError", "export", "load", "quantize", "save"]
