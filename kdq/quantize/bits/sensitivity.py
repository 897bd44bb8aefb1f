"""Sensitivity: what a network loses if one layer alone is quantized.

The measure by which a budget of bits is spent: divergence from the float network's predictions (Cai et al., ZeroQ, CVPR
2020) or loss on calibration data (Hubara et al., Accurate post training quantization with small calibration sets, ICML
2021). Summed over layers it estimates what the network loses if all of them are quantized.
"""

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor, nn

from kdq.data.prepared import Split
from kdq.models import masks
from kdq.models.activations import quantized_activations
from kdq.quantize.bits.alphabet import BITS, Alphabet
from kdq.quantize.bits.losses import Reference, log_probabilities
from kdq.quantize.bits.sensitivity_table import Measurement
from kdq.quantize.execution.equalization import equalize
from kdq.quantize.execution.images import floats
from kdq.quantize.execution.layer import forward, quantize_layer, relative_error, without_bias
from kdq.quantize.execution.passes import later_inputs, layer_input
from kdq.quantize.execution.rectifiers import passed_outputs
from kdq.quantize.execution.selection import Selection, activation_points, as_modules, point_of, seen, select
from kdq.quantize.gram.calibration import Calibration
from kdq.quantize.keys import Quantizing
from kdq.quantize.quantizer import Quantizer

AT_ONCE = 250  # images of a partial pass: little but the layer's inputs has to be in memory


class SharedInputs(Calibration):
    """A calibration for several bit-widths, which computes its Gram matrices once."""

    def gram_matrices(self) -> tuple[Tensor, Tensor]:
        return self._gram_matrices

    @cached_property
    def _gram_matrices(self):
        return super().gram_matrices()


@torch.no_grad()
def measure(
    model: nn.Module,
    part: Split,
    quantizer: Quantizer,
    seed: int = 0,
    device=None,
    log=print,
    evaluated: Split | None = None,
) -> list[Measurement]:
    """Quantize each layer alone at each of ``BITS``; return a :class:`Measurement` per pair.

    The layers are those that :func:`kdq.quantize.execution.network.quantize` would quantize without the key ``keep``.
    ``part`` has the calibration images, ``evaluated`` those on which costs are measured (default: the same); the keys
    ``bits`` and ``keep`` are ignored. A layer's inputs are those of the float network. The model is left as it was but
    for its plain layers and equalised channels, in eval mode. Per layer one partial forward pass, and a whole one per
    bit-width.
    """
    device = device or next(model.parameters()).device
    images, evaluated = part.images.to(device), evaluated or part
    selection = select(model.to(device).eval(), images, fold=quantizer.keys.batchnorm == "fold")
    if quantizer.keys.channels == "equalize":
        equalize(model)
    for name, reason in selection.reasons.items():
        log(f"{name}: stays float, {reason}")
    with as_modules(selection.functional):
        reference = Reference(log_probabilities(model, evaluated.images, device), evaluated.labels)
        passed = passed_outputs(model, selection.layers) if quantizer.sees_relu else {}
        inputs = _Inputs(model, selection, images, quantizer.keys, passed)
        return [
            row
            for name in selection.executed
            for row in _alone(inputs, name, quantizer, seed, evaluated.images, reference, log)
        ]


class _Inputs:
    """The inputs of a network's layers, those of a layer computed when they are asked for."""

    def __init__(self, model: nn.Module, selection: Selection, images: Tensor, keys: Quantizing, passed: dict):
        self.model, self.selection, self.images = model, selection, images
        self.points = activation_points(model, selection, images, keys)
        self.seen = seen(self.points, keys)
        self.passed = passed
        calls = [name for name in selection.calls if name not in selection.constants]
        self.later = later_inputs(model, selection.layers, calls, images, self.seen)

    def calibration(self, name: str, quantizer: Quantizer, seed: int) -> SharedInputs:
        """Return a layer's inputs, of every call, in the float network and in that in which it is quantized."""
        analog, quantized = self.later.get(name, ([], []))
        calls = reached = self.selection.constants.get(name) or [self._first(name), *analog]
        if self.seen and name not in self.selection.constants:
            with quantized_activations(self.model, self.seen):
                reached = [self._first(name), *quantized]
        module, place = self.selection.layers[name], self.selection.places[name]
        sampling, point = quantizer.keys.patches, point_of(name, self.seen)
        passed = self.passed.get(name)
        return SharedInputs(module, calls, reached, sampling, seed + place, len(calls) == 1, point, passed)

    def _first(self, name: str) -> Tensor:
        """Return the inputs of a layer's first call."""
        module, batches = self.selection.layers[name], floats(self.images).split(AT_ONCE)
        return torch.cat([layer_input(self.model, module, batch) for batch in batches])


def _alone(inputs: _Inputs, name, quantizer, seed, images, reference, log) -> Iterator[Measurement]:
    """Yield the measurement of a layer alone at each of ``BITS``."""
    calibration = inputs.calibration(name, quantizer, seed)
    module, weight = calibration.module, calibration.module.weight.data
    for bits in BITS:
        layer = quantize_layer(name, calibration, quantizer, Alphabet(bits, quantizer.keys.levels))
        decoded, error = layer.decode().to(weight), layer.facts["relative_error"]
        if error is None:
            pairs = (calibration.analog[0], None), (calibration.quantized[0], decoded)
            error = relative_error([tuple(without_bias(module, forward(module, *pair)) for pair in pairs)])
        module.weight.data = decoded
        with quantized_activations(inputs.model, inputs.points):
            losses = reference.losses(log_probabilities(inputs.model, images, weight.device))
        module.weight.data = weight
        sizes = {"weights": masks.left_in(module), "steps": layer.step.numel()}
        row = Measurement(layer=name, bits=bits, **sizes, relative_error=error, **losses)
        log(row)
        yield row
