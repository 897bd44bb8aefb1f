"""Quantize any network: the call of a quantizer with everything around it."""

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import kdq
from kdq.data.prepared import Split
from kdq.errors import UserError, nearest, reason, shown
from kdq.library.images import calibration_part
from kdq.library.network import QuantizedNetwork
from kdq.models.activations import has_quantizers
from kdq.models.file import content
from kdq.models.integer import to_integer
from kdq.models.logits import logits_of
from kdq.models.network import Network
from kdq.models.networks.foreign import architecture_of
from kdq.quantize.bits.sensitivity import measure
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.impact import Impact
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import bits_of_layers, quantize_network
from kdq.recipe.kinds import QUANTIZE
from kdq.recipe.stages import StageType, find_stages, settle

PACKAGE = Path(__file__).parents[1]  # the folder kdq
AT_ONCE = 64  # images of a pass


def quantize(
    network: nn.Module,
    images: Tensor | Iterable,
    method: str = "gpfq",
    *,
    bits: int | None = None,
    budget: float | None = None,
    activations: int = 0,
    keep: Sequence[str] | str = (),
    input: Literal["float", "uint8"] = "float",
    count: int = 256,
    seed: int = 0,
    device: torch.device | str | None = None,
    log: Callable[[str], None] | None = None,
    **keys: Any,
) -> QuantizedNetwork:
    r"""Return ``network`` with quantized weights; the network itself is left untouched.

    ``images`` are calibration images, a tensor (M, ...) or a loader of batches, with labels or without, as the network
    takes them in evaluation; with ``input="uint8"`` they are uint8 and the network takes them divided by 255. At most
    ``count`` are used: drawn by ``seed`` from a tensor, the first of a loader.

    ``method`` is a quantizer, such as ``rtn``, ``gpfq``, ``gptq``, ``adaround`` or ``brecq``. Each weight gets ``bits``
    (default 4), or with ``budget`` each layer its own bits, with this mean, chosen by what each layer costs when
    quantized alone. ``activations`` are the bits of activations, 0 for floats; with 8 the exported file runs on
    integers, and BatchNorm is folded into the convolution before it. ``keep`` names layers that stay float, ``first``
    and ``last`` among them. Further ``keys`` are those of the method, see docs/config.md.

    If images come without labels, the network's own predictions stand for them in the keys ``cost=loss`` and
    ``accuracy``. ``device`` is that to compute on (default: the network's), ``log`` gets a line per layer.

    Raise UserError for a method, key or value that does not exist, for images of another form, and for a network that
    can't take them.

    >>> import torch, kdq
    >>> from torch.nn import Flatten, Linear, ReLU, Sequential
    >>> network = Sequential(Flatten(), Linear(16, 8), ReLU(), Linear(8, 3))
    >>> images = torch.rand(64, 1, 4, 4)
    >>> quantized = kdq.quantize(network, images, method="gpfq", bits=4)
    >>> quantized(images).shape, list(quantized.layers)
    (torch.Size([64, 3]), ['1', '3'])
    >>> layer = quantized.layers["1"]
    >>> layer.codes.dtype, layer.codes.shape, layer.step.shape, layer.bits, layer.relative_error < 0.1
    (torch.int16, torch.Size([8, 16]), torch.Size([8]), 4, True)
    >>> mixed = kdq.quantize(network, images, method="rtn", budget=3.5)
    >>> mixed.bits_per_weight <= 3.5
    True
    >>> kdq.quantize(network, images, keep=["last"]).kept
    {'3': {'weights': 24, 'reason': 'named by the key keep'}}
    """
    stage = _stage(method)
    given = {"bits": bits, "budget": budget, "activations": activations or None, **keys}
    values = _values(stage, {key: value for key, value in given.items() if value is not None}, keep, network)
    pictures, labels = calibration_part(images, input, count, seed)
    model = _copy(network, device)
    part = _part(model, pictures.to(_device(model)), labels)
    quantizer = quantizer_of(stage.module, values | {"images": len(pictures)}, seed)
    log = log or (lambda line: None)
    layer_bits = None
    if quantizer.keys.budget:
        costs = measure(model, part, quantizer, seed, log=lambda row: log(str(row)))
        layer_bits = bits_of_layers(model, part.images, costs, quantizer.keys)
    impact = Impact(part, quantizer.keys.cost, quantizer.keys.pick) if quantizer.keys.order == "iterative" else None
    codes = quantize_network(model, part.images, quantizer, seed, None, log, layer_bits, None, impact)
    facts = {"input": {"images": input, "shape": list(pictures.shape[1:])}, "kdq": kdq.__version__}
    file = content(model, architecture_of(network), codes, method=method, keys=values, seed=seed, **facts)
    if codes.points:
        to_integer(model, codes).to(part.images.device)
    return QuantizedNetwork(model, file)


def _stage(method: str) -> StageType:
    """Return the quantizer called ``method``; raise UserError if there is none."""
    stages = {name: stage for name, stage in find_stages(PACKAGE).items() if stage.kind == QUANTIZE}
    if method not in stages:
        raise UserError(f"method: found {shown(method)}, expected one of {', '.join(stages)}{nearest(method, stages)}")
    return stages[method]


def _values(stage: StageType, given: dict, keep: Sequence[str] | str, network: nn.Module) -> dict:
    """Return all keys that the quantizer reads; raise UserError, as for a recipe, for one that does not exist or fit.

    With quantized activations BatchNorm is folded unless the caller says what becomes of it.
    """
    if keep:
        given["keep"] = keep if isinstance(keep, str) else "+".join(map(str, keep))
    if given.get("activations") and not isinstance(network, Network):
        given.setdefault("batchnorm", "fold")
    return settle(stage.keys, {}, given, f"method {stage.name!r}")


def _copy(network: nn.Module, device) -> nn.Module:
    """Return a copy in evaluation mode; raise UserError for what is no float32 network."""
    if not isinstance(network, nn.Module):
        raise UserError(f"network: found {type(network).__name__}, expected an nn.Module")
    if isinstance(network, QuantizedNetwork) or has_quantizers(network):
        raise UserError("network: found one with quantized activations or codes, expected a float network")
    types = {str(parameter.dtype) for parameter in network.parameters()} or {"no parameters"}
    if wrong := types - {"torch.float32"}:
        raise UserError(f"network: found {min(wrong)}, expected parameters of torch.float32; see network.float()")
    return deepcopy(network).to(device or _device(network)).eval()


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@torch.no_grad()
def _part(model: nn.Module, images: Tensor, labels: Tensor | None) -> Split:
    """Return images with their labels, or the classes that the network predicts; raise UserError if it can't."""
    try:
        logits = [logits_of(model(floats(batch))) for batch in images.split(AT_ONCE)]
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001, a network runs code of any kind
        name, shape = type(model).__name__, tuple(images.shape[1:])
        raise UserError(f"images: {name} can't take {images.dtype} of shape {shape} ({reason(error)})") from None
    return Split(images, torch.cat(logits).flatten(1).argmax(1).cpu() if labels is None else labels)
