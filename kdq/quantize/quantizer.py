"""The contract of a quantizer: integer codes of a layer's weight from Gram matrices of its inputs."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdq.errors import UserError
from kdq.models.codes import Point, QuantizedWeight
from kdq.quantize.keys import Quantizing
from kdq.recipe.implementation import declared_class


@dataclass(frozen=True)
class Block:
    """Layers whose codes are learned together, in a model that is float still.

    ``run`` calls the block, and so the ``forward`` of its ``layers`` (by name, those to quantize), on its input;
    ``codes`` are those that the quantizer gave each of them; ``inputs`` (M, ...) reach it in the quantized network, and
    ``outputs`` (M, ...) leave it in the float one. ``points`` are the quantized activations of ``model`` that the
    quantized network has. ``rest`` returns the logits of outputs in the float network, None if it can't be had.
    """

    model: nn.Module
    run: Callable[[Tensor], Tensor]
    layers: dict[str, nn.Module]
    codes: dict[str, QuantizedWeight]
    inputs: Tensor
    outputs: Tensor
    points: Sequence[Point] = ()
    rest: Callable[[Tensor], Tensor] | None = None


class Quantizer:
    """A quantizer: a file in ``kdq/quantize/methods`` holds one subclass, and a class ``Parameters`` with its keys.

    ``keys`` are the values of the stage's keys. Randomness comes from ``seed`` alone; one instance quantizes all layers
    of a network, one after the other.

    Shapes: ``weight`` (g, N, d), g groups of N outputs with d inputs each; ``cross`` = X~'X and ``gram`` = X~'X~,
    both (g, d, d) in float64, of the inputs X of the float and X~ of the quantized network; ``step`` (K, g, N) for
    K alphabets to compare; ``low`` and ``high`` the smallest and the largest code, integers.
    """

    from_residuals = False  # True if `codes_from_residuals` is defined
    learns_blocks = False  # True if `learned` is defined
    descends = False  # True if a search takes the step that suits nearest codes best: codes are then made once
    sees_relu = False  # True if `codes_before_relu` is defined
    sees_pruned = False  # True if `codes` takes the keyword `pruned`; else the codes of pruned weights are made 0

    def __init__(self, keys: Quantizing, seed: int = 0):
        self.keys, self.seed = keys, seed

    @property
    def name(self) -> str:
        """The name of the stage: that of the quantizer's file."""
        return type(self).__module__.rpartition(".")[2]

    def codes(self, weight: Tensor, cross: Tensor, gram: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        """Return codes int16 (K, g, N, d); inputs that are always zero get code 0 if the method follows the inputs.

        With ``sees_pruned`` the keyword ``pruned``, bool (g, N, d) or None, tells which weights get code 0.
        """
        raise NotImplementedError

    def codes_of_left(self, weight, pruned: Tensor, *arguments) -> Tensor:
        """Return codes as :meth:`codes`, 0 where ``weight`` is ``pruned``."""
        if self.sees_pruned:
            return self.codes(weight, *arguments, pruned=pruned)
        return self.codes(weight, *arguments).masked_fill(pruned, 0)

    def codes_with_errors(self, weight, cross, gram, step, low, high) -> tuple[Tensor, Tensor]:
        """Return the codes and per row ||X w - X~ q||^2 (K, g, N) up to a constant that no code changes.

        Override it if the method knows the errors for less than the product with ``gram`` that they take here.
        """
        codes = self.codes(weight, cross, gram, step, low, high)
        check_codes(codes, weight, step, low, high)
        return codes, excess(weight, codes, step, cross, gram)

    def codes_from_residuals(self, weight, columns, step, low, high) -> tuple[Tensor, Tensor, Tensor]:
        """Return the same codes from columns of X and X~, ||X w - X~ q||^2 (K, g, N) and ||X w||^2 (g, N).

        ``columns`` yields the blocks of :func:`kdq.quantize.gram.calibration.columns`. Called instead of the other
        methods if it is cheaper and ``from_residuals`` is True.
        """
        raise NotImplementedError

    def learned(self, block: Block) -> dict[str, Tensor]:
        """Return better codes of a block's layers, int16 of the weight's shape, by name; their steps stay.

        Called for one block of the network after another if ``learns_blocks`` is True, each after :meth:`codes` of its
        layers, whose X~ the codes learned before are in.
        """
        raise NotImplementedError

    def codes_before_relu(self, weight, rows, passed, step, low, high) -> Tensor:
        """Return codes (K, g, N, d) by the error behind the ReLU, that of X w and X~ q both clamped to ``passed``.

        ``rows`` of X and X~, both (g, patches, d) in float32; ``passed`` (2, g, N). Called for a layer with a ReLU
        behind it if ``sees_relu`` is True.
        """
        raise NotImplementedError


class Rounding(Quantizer):
    """Nearest codes, as those of a step that is searched for a quantizer that descends."""

    def codes(self, weight, cross, gram, step, low, high):
        return nearest_codes(weight, step, low, high)


def nearest_codes(weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    """Return clip(floor(weight / step + 1/2), low, high), int16 (..., g, N, d), of ``step`` (..., g, N)."""
    return (weight / step.double()[..., None]).add_(0.5).floor_().clamp_(low, high).to(torch.int16)


def quantizer_of(module: str, keys: dict, seed: int) -> Quantizer:
    """Return the quantizer that the module named ``module`` declares, with its ``Parameters`` of ``keys``."""
    parameters = importlib.import_module(module).Parameters(**keys)
    return declared_class(module, Quantizer)(parameters, seed)


def check_codes(codes, weight, step, low: int, high: int) -> None:
    """Raise UserError unless codes are int16 of shape (K, g, N, d) within the alphabet."""
    shape = (len(step), *weight.shape)
    if not isinstance(codes, Tensor) or codes.dtype != torch.int16 or tuple(codes.shape) != shape:
        actual = f"{codes.dtype} {tuple(codes.shape)}" if isinstance(codes, Tensor) else type(codes).__name__
        raise UserError(f"codes: found {actual}, expected torch.int16 {shape}")
    smallest, largest = (int(bound) for bound in codes.aminmax()) if codes.numel() else (low, high)
    if smallest < low or largest > high:
        raise UserError(f"codes: found {smallest} to {largest}, expected {low} to {high}")


def excess(weight, codes, step, cross, gram, block=512) -> Tensor:
    """Return ||X w - X~ q||^2 - ||(X - X~) w||^2 per row, (..., g, N): the squared error up to what no code can change.

    ``weight`` (g, N, d), ``codes`` (..., g, N, d), ``step`` (..., g, N), ``cross`` = X~'X, ``gram`` = X~'X~ (g, d, d).
    With e = w - q it is e'H e + 2 e'(G - H) w. In e, not in q, nothing large cancels, so that float32 products do;
    and of the symmetric H only the lower triangle of blocks is multiplied.
    """
    difference = (weight - codes * step.double()[..., None]).float()
    drift = 0 if cross is gram else 2 * (weight.float() @ (cross - gram).float().mT)
    total = (difference * drift).sum(-1, dtype=torch.float64)
    gram = gram.float()
    for start in range(0, gram.shape[-1], block):
        here, rows = difference[..., start : start + block], gram[:, start : start + block]
        product = here @ rows[..., start : start + block]
        product += 2 * (difference[..., :start] @ rows[..., :start].mT)
        total += (product * here).sum(-1, dtype=torch.float64)
    return total
