"""The one model file: float tensors, or for a quantized layer its packed integer codes and its steps.

A safetensors file. A float parameter has its own name; a quantized weight NAME is ``NAME.codes``, uint8 with exactly
the alphabet's storage bits per weight, and ``NAME.step``, float32, one per layer or one per row. The header holds the
architecture, how the model was made, the quantized layers and the provenance. A model with quantized activations also
holds ``activations.scale``, float32, and ``activations.zero_point``, uint8, one per point; its header names the inputs
that read each point, and the bits. Of a pruned weight NAME the file holds its mask, ``NAME.mask``, see
:mod:`kdq.models.masks`, and only the weights that are left, in row-major order: ``NAME.values`` or their codes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from kdq.errors import UserError, reason
from kdq.models import folded_norms, masks, plain_layers, registry
from kdq.models.codes import Codes, Point, QuantizedWeight
from kdq.models.integer import to_integer
from kdq.models.libraries import of_another_version
from kdq.models.packing import pack, unpack
from kdq.provenance.files import read_tensors, write_tensors
from kdq.provenance.formats import MODEL as FORMAT

SCALE, ZERO_POINT = "activations.scale", "activations.zero_point"


@dataclass(frozen=True)
class ModelFile:
    """The content of a model file: header, float tensors, quantized layers and activations, masks of pruned layers."""

    header: dict
    floats: dict[str, Tensor]
    codes: Codes
    masks: Mapping[str, Tensor] = field(default_factory=dict)


def save(path, network: nn.Module, architecture: dict, codes: Codes, **header) -> None:
    """Write a model file atomically, see :func:`content` and :func:`write`."""
    write(path, content(network, architecture, codes, **header))


def content(network: nn.Module, architecture: dict, codes: Codes, **header) -> ModelFile:
    """Return the content of a network's model file.

    ``architecture`` holds the arguments of :func:`kdq.models.registry.build`; ``codes`` maps names of layers (modules
    with a ``weight``) to their codes, empty for a float model; ``header`` gives more keys of plain values.
    """
    quantized = {f"{layer}.weight" for layer in codes}
    tensors = {name: value for name, value in network.state_dict().items() if name not in quantized}
    architecture = folded_norms.described(plain_layers.described(architecture, network), network)
    return ModelFile({"architecture": architecture, **header}, tensors, codes, masks.masks_of(network))


def write(path, file: ModelFile) -> None:
    """Write a model file atomically; the layers that its codes keep float are named in the header's ``kept``."""
    header, tensors, codes, layers = dict(file.header), dict(file.floats), file.codes, {}
    for layer, weight in codes.items():
        tensors[f"{layer}.weight.codes"] = pack(
            left(weight.codes, file.masks.get(layer)), weight.low, weight.storage_bits
        )
        tensors[f"{layer}.weight.step"] = weight.step.float()
        bounds = {"low": weight.low, "high": weight.high, "storage_bits": weight.storage_bits}
        layers[layer] = {"shape": list(weight.codes.shape), **bounds, **weight.facts}
    if codes.kept:
        header["kept"] = codes.kept
    if codes.points:
        tensors[SCALE] = torch.stack([point.scale for point in codes.points])
        tensors[ZERO_POINT] = torch.tensor([point.zero_point for point in codes.points], dtype=torch.uint8)
        header["activations"] = [{"readers": list(point.readers), "bits": point.bits} for point in codes.points]
    if file.masks:
        header["pruned"] = {}
    for layer, mask in file.masks.items():
        tensors[f"{layer}.weight.mask"], bits, runs = masks.encoded(mask)
        header["pruned"][layer] = {"shape": list(mask.shape), "left": int(mask.sum()), "bits": bits, "runs": runs}
        if (weight := tensors.pop(f"{layer}.weight", None)) is not None:
            tensors[f"{layer}.weight.values"] = left(weight, mask)
    write_tensors(path, tensors, {**header, "format": FORMAT, "layers": layers})


def left(weight: Tensor, mask: Tensor | None) -> Tensor:
    """Return the weights or codes of a layer that its mask leaves, all if it has none, as a vector."""
    return weight.flatten() if mask is None else weight[mask.to(weight.device)]


def whole(values: Tensor, shape, mask: Tensor | None) -> Tensor:
    """Return the weight or codes of a layer, of the given shape, the inverse of :func:`left`."""
    return values.view(shape) if mask is None else values.new_zeros(shape).masked_scatter_(mask, values)


def weights_left(file: ModelFile) -> dict[str, int]:
    """Return the number of weights that are left in each layer with codes, and in those that stay float beside them."""
    whole = {name: layer["weights"] for name, layer in file.codes.kept.items()}
    whole |= {name: weight.codes.numel() for name, weight in file.codes.items()}
    return {name: int(file.masks[name].sum()) if name in file.masks else count for name, count in whole.items()}


def read(path) -> ModelFile:
    """Read a model file; raise UserError that names it if it is missing, corrupted or foreign."""
    return parse(*read_tensors(path, FORMAT), path)


def parse(header: dict, tensors: dict[str, Tensor], path) -> ModelFile:
    """Return the content given header and tensors; raise UserError with ``path`` if they contradict each other."""
    codes = Codes()
    try:
        pruned = _masks(header, tensors)
        codes.kept.update(_kept(header))
        codes.points = _points(header, tensors)
        for layer, facts in header["layers"].items():
            facts = dict(facts)
            shape, low, high, bits = (facts.pop(key) for key in ("shape", "low", "high", "storage_bits"))
            packed, mask = tensors.pop(f"{layer}.weight.codes"), pruned.get(layer)
            count = torch.Size(shape).numel() if mask is None else int(mask.sum())
            values = whole(unpack(packed, count, low, bits), shape, mask)
            if values.numel() and (values.min() < low or values.max() > high):
                raise UserError(f"{path}: layer {layer}: a code outside {low}..{high}")
            step = tensors.pop(f"{layer}.weight.step")
            if step.dim() != 1 or len(step) not in (1, *values.shape[:1]):
                raise UserError(f"{path}: layer {layer}: steps {tuple(step.shape)}, expected one or one per row")
            codes[layer] = QuantizedWeight(values, step, low, high, bits, facts)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RuntimeError) as error:
        raise UserError(f"{path}: corrupted, its quantized layers do not fit its header ({error})") from None
    return ModelFile(header, tensors, codes, pruned)


def _masks(header: dict, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the masks of pruned layers; in ``tensors`` the weights that are left become whole float weights.

    Raise ValueError if they are not as many as the header says.
    """
    pruned = {}
    for layer, facts in header.get("pruned", {}).items():
        mask = masks.decoded(tensors.pop(f"{layer}.weight.mask"), facts["shape"], facts["bits"], facts["runs"])
        values = tensors.pop(f"{layer}.weight.values", None)
        for count in (int(mask.sum()), *([] if values is None else [values.numel()])):
            if count != facts["left"]:
                raise ValueError(f"pruned: {layer}: {count} weights are left, expected {facts['left']}")
        if values is not None:
            tensors[f"{layer}.weight"] = whole(values, facts["shape"], mask)
        pruned[layer] = mask
    return pruned


def _kept(header: dict) -> dict[str, dict]:
    """Return the layers of a quantized model that stay float; raise ValueError if the header has no such facts."""
    kept = header.get("kept", {})
    for layer, facts in kept.items():
        if type(facts["weights"]) is not int or not isinstance(facts["reason"], str):
            raise ValueError(f"kept: {layer}: expected the number of its weights and a reason")
    return kept


def _points(header: dict, tensors: dict[str, Tensor]) -> tuple[Point, ...]:
    """Return the quantized activations, whose tensors are taken out of ``tensors``; raise ValueError if they differ."""
    entries = header.get("activations", [])
    scales, zero_points = (tensors.pop(name).tolist() for name in (SCALE, ZERO_POINT)) if entries else ((), ())
    points = []
    for entry, scale, zero_point in zip(entries, scales, zero_points, strict=True):
        bits, readers = entry["bits"], tuple(entry["readers"])
        if not (1 <= bits <= 8 and 0 <= zero_point < 2**bits and 0 < scale < float("inf") and readers):
            raise ValueError(f"activations: scale {scale:g} and zero point {zero_point} at {bits} bits of {readers}")
        points.append(Point(readers, bits, torch.tensor(scale), zero_point))
    return tuple(points)


def to_network(file: ModelFile, path="model", integer: bool = True, into: nn.Module | None = None) -> nn.Module:
    """Return the network of a model file, in eval mode, with the decoded weights: a new one, or ``into``, in place.

    With quantized activations it computes as an integer runtime does, see :mod:`kdq.models.integer`, unless ``integer``
    is false: then it is the network that was quantized, with its BatchNorm and float activations.
    """
    state = dict(file.floats)
    fits = "its architecture" if into is None else type(into).__name__
    try:
        state.update({f"{layer}.weight": weight.decode() for layer, weight in file.codes.items()})
        architecture = file.header["architecture"]
        network = _built(architecture, state) if into is None else _changed(architecture, into)
        network.load_state_dict(state, strict=True)
        masks.remove(network)
        masks.attach(network, file.masks)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, RuntimeError) as error:
        where, architecture = f"{path}: its tensors do not fit {fits}", file.header.get("architecture")
        foreign = into is None and isinstance(architecture, dict)
        versions = of_another_version(architecture) if foreign else ""
        raise UserError(f"{where} ({reason(error, 300)}){versions}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return to_integer(network.eval(), file.codes) if integer and file.codes.points else network.eval()


def _built(architecture: dict, state: dict[str, Tensor]) -> nn.Module:
    """Return a new network; raise ValueError if its size is not that of the tensors."""
    for name, shape in registry.outline(**architecture).items():
        if state[name].shape != shape:
            raise ValueError(f"{name} is {tuple(state[name].shape)}, expected {shape}")
    return registry.build(**architecture)


def _changed(architecture: dict, network: nn.Module) -> nn.Module:
    """Return ``network``, changed in place as that of the architecture was when it was quantized."""
    return registry.changed(network, **{key: architecture[key] for key in registry.CHANGES if key in architecture})


def load(path) -> nn.Module:
    """Return the network in a model file, float or quantized, in eval mode; raise UserError as :func:`read` does."""
    return to_network(read(path), path)
