"""The one model file: float tensors, or for a quantized layer its packed integer codes and its steps.

A safetensors file. A float parameter has its own name; a quantized weight NAME is ``NAME.codes``, uint8 with exactly
the alphabet's storage bits per weight, and ``NAME.step``, float32, one per layer or one per row. The header holds the
architecture, how the model was made, the quantized layers and the provenance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdq.errors import UserError, reason
from kdq.models import registry
from kdq.models.codes import Codes, QuantizedWeight
from kdq.models.packing import pack, unpack
from kdq.models.plain_layers import described
from kdq.provenance.files import read_tensors, write_tensors
from kdq.provenance.formats import MODEL as FORMAT


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file: header, float tensors, codes by name of the quantized layer."""

    header: dict
    floats: dict[str, Tensor]
    codes: Codes


def save(path, network: nn.Module, architecture: dict, codes: dict[str, QuantizedWeight], **header) -> None:
    """Write a model file atomically.

    ``architecture`` holds the arguments of :func:`kdq.models.registry.build`; ``codes`` maps names of layers (modules
    with a ``weight``) to their codes, empty for a float model; ``header`` gives more keys of plain values. The layers
    that ``codes`` keep float are named in the header's ``kept``.
    """
    quantized = {f"{layer}.weight" for layer in codes}
    tensors = {name: value for name, value in network.state_dict().items() if name not in quantized}
    layers = {}
    for layer, weight in codes.items():
        tensors[f"{layer}.weight.codes"] = pack(weight.codes.flatten(), weight.low, weight.storage_bits)
        tensors[f"{layer}.weight.step"] = weight.step.float()
        bounds = {"low": weight.low, "high": weight.high, "storage_bits": weight.storage_bits}
        layers[layer] = {"shape": list(weight.codes.shape), **bounds, **weight.facts}
    if kept := getattr(codes, "kept", {}):
        header["kept"] = kept
    architecture = described(architecture, network)
    write_tensors(path, tensors, {"format": FORMAT, "architecture": architecture, "layers": layers, **header})


def read(path) -> ModelFile:
    """Read a model file; raise UserError that names it if it is missing, corrupted or foreign."""
    return parse(*read_tensors(path, FORMAT), path)


def parse(header: dict, tensors: dict[str, Tensor], path) -> ModelFile:
    """Return the content given header and tensors; raise UserError with ``path`` if they contradict each other."""
    codes = Codes()
    try:
        codes.kept.update(_kept(header))
        for layer, facts in header["layers"].items():
            facts = dict(facts)
            shape, low, high, bits = (facts.pop(key) for key in ("shape", "low", "high", "storage_bits"))
            packed = tensors.pop(f"{layer}.weight.codes")
            values = unpack(packed, torch.Size(shape).numel(), low, bits).view(shape)
            if values.numel() and (values.min() < low or values.max() > high):
                raise UserError(f"{path}: layer {layer}: a code outside {low}..{high}")
            step = tensors.pop(f"{layer}.weight.step")
            if step.dim() != 1 or len(step) not in (1, *values.shape[:1]):
                raise UserError(f"{path}: layer {layer}: steps {tuple(step.shape)}, expected one or one per row")
            codes[layer] = QuantizedWeight(values, step, low, high, bits, facts)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise UserError(f"{path}: corrupted, its quantized layers do not fit its header ({error})") from None
    return ModelFile(header, tensors, codes)


def _kept(header: dict) -> dict[str, dict]:
    """Return the layers of a quantized model that stay float; raise ValueError if the header has no such facts."""
    kept = header.get("kept", {})
    for layer, facts in kept.items():
        if type(facts["weights"]) is not int or not isinstance(facts["reason"], str):
            raise ValueError(f"kept: {layer}: expected the number of its weights and a reason")
    return kept


def to_network(file: ModelFile, path="model") -> nn.Module:
    """Return the network of a model file, in eval mode, with the decoded weights."""
    state = dict(file.floats)
    try:
        state.update({f"{layer}.weight": weight.decode() for layer, weight in file.codes.items()})
        for name, shape in registry.outline(**file.header["architecture"]).items():
            if state[name].shape != shape:
                raise ValueError(f"{name} is {tuple(state[name].shape)}, expected {shape}")
        network = registry.build(**file.header["architecture"])
        network.load_state_dict(state, strict=True)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: its tensors do not fit its architecture ({reason(error, 300)})") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return network.eval()


def load(path) -> nn.Module:
    """Return the network in a model file, float or quantized, in eval mode; raise UserError as :func:`read` does."""
    return to_network(read(path), path)
