"""Sensitivity: what a network loses where one layer alone is quantized.

The measure that a budget of bits is spent by: divergence from the float network's predictions (Cai et al., ZeroQ, CVPR
2020) or loss on calibration data (Hubara et al., Accurate post training quantization with small calibration sets, ICML
2021). Summed over layers it stands for what the network loses where all of them are quantized.
"""

import copy
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import evaluation_batches
from kdq.data.prepared import Split
from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.bits.sensitivity_table import Measurement
from kdq.quantize.execution.inputs import execution_order, layer_inputs
from kdq.quantize.execution.network import quantize_layer, with_error
from kdq.quantize.gram.calibration import Calibration

BITS = (2, 3, 4, 5, 6, 7, 8)


class SharedInputs(Calibration):
    """A calibration for several bit-widths: its Gram matrices are computed once."""

    def gram_matrices(self) -> tuple[Tensor, Tensor]:
        return self._gram_matrices

    @cached_property
    def _gram_matrices(self):
        return super().gram_matrices()


@dataclass(frozen=True)
class Reference:
    """What the float network predicts: ``log_probabilities`` (M, K) float64 for images with ``labels`` (M,)."""

    log_probabilities: Tensor
    labels: Tensor

    def losses(self, log_probabilities: Tensor) -> dict[str, float]:
        """What other predictions (M, K) for the same images lose: the columns kl, loss and accuracy."""
        own, other = self.log_probabilities, log_probabilities
        rows = torch.arange(len(own))
        return {
            "kl": float(F.kl_div(other, own, log_target=True, reduction="batchmean")),
            "loss": float((own - other)[rows, self.labels].mean()),
            "accuracy": float(self._right(own) - self._right(other)) / len(own),
        }

    def _right(self, log_probabilities: Tensor) -> Tensor:
        return (log_probabilities.argmax(1) == self.labels).sum()


@torch.no_grad()
def log_probabilities(model: nn.Module, images: Tensor, device) -> Tensor:
    """Log of the predicted probabilities (M, K), float64 on the CPU, of uint8 images (M, C, H, W)."""
    logits = [model(batch.to(device)).double().cpu() for batch in evaluation_batches(images)]
    return torch.cat(logits).log_softmax(1)


@torch.no_grad()
def measure(
    model: nn.Module, part: Split, quantizer, parameters, seed: int = 0, device=None, log=print
) -> list[Measurement]:
    """Quantize each nn.Conv2d and nn.Linear alone, at each of ``BITS``; the model is left as it was, in eval mode.

    The arguments are those of :func:`kdq.quantize.execution.network.quantize`, ``part`` the calibration images with labels; the
    bits of ``parameters`` are not read. A layer's inputs are those of the float network. Per layer one partial forward
    pass, and a whole one a bit-width.
    """
    device = device or next(model.parameters()).device
    model.to(device).eval()
    images = part.images.to(device).float() / 255
    reference = Reference(log_probabilities(model, part.images, device), part.labels)
    found = []
    for index, name in enumerate(execution_order(model, images[:1])):
        module, inputs = model.get_submodule(name), layer_inputs(model, name, images)
        calibration = SharedInputs(module, inputs, inputs, parameters.patches, seed + index)
        weight, float_module = module.weight.data, copy.deepcopy(module)
        for bits in BITS:
            layer = quantize_layer(name, calibration, quantizer, Alphabet(bits, parameters.levels), parameters)
            layer = with_error(layer, float_module, module, inputs, inputs)
            losses = reference.losses(log_probabilities(model, part.images, device))
            module.weight.data = weight
            of_layer = {"weights": weight.numel(), "steps": layer.step.numel(), "relative_error": layer.relative_error}
            found.append(Measurement(layer=name, bits=bits, **of_layer, **losses))
            log(found[-1])
    return found
