"""A network's quantization, from the quantizer to the file: integer codes and their steps, layers without any, and
quantized activations."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer ``codes``, int16 of the weight's shape, and ``step``, float32 (1,) or (rows,).

    ``low`` and ``high`` bound the codes, ``storage_bits`` are the bits per code in the file; ``facts`` are plain values
    for the header (bits, levels, relative error, ...).
    """

    codes: Tensor
    step: Tensor
    low: int
    high: int
    storage_bits: int
    facts: dict = field(default_factory=dict)

    @property
    def bits(self) -> int:
        """Bits per weight."""
        return self.facts.get("bits", self.storage_bits)

    @property
    def relative_error(self) -> float | None:
        """||X W' - X~ Q'|| / ||X W'|| (Frobenius) on the calibration images, None if it is not known."""
        return self.facts.get("relative_error")

    def decode(self) -> Tensor:
        """Return the weight, float32: code times step."""
        return self.codes.float() * self.step.view(-1, *[1] * (self.codes.dim() - 1))


@dataclass(frozen=True)
class Point:
    """A quantized activation: x ~ scale (code - zero_point), codes of ``bits`` bits from 0 on.

    ``readers`` are the inputs that read the tensor, by name of the module, ``:1`` behind it for its second input;
    ``scale`` is float32 ().
    """

    readers: tuple[str, ...]
    bits: int
    scale: Tensor
    zero_point: int

    @property
    def name(self) -> str:
        return self.readers[0]


class Codes(dict[str, QuantizedWeight]):
    """The codes of a network's quantized layers by name.

    ``kept`` are the layers that stay float beside them, by name: the number of their ``weights``, and the ``reason``;
    ``points`` are the quantized activations.
    """

    def __init__(self, *layers, kept: dict[str, dict] | None = None, points: Sequence[Point] = ()):
        super().__init__(*layers)
        self.kept, self.points = kept or {}, tuple(points)
