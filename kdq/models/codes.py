"""Quantized weights, from the quantizer to the file: integer codes and their steps, and the layers without any."""

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

    def decode(self) -> Tensor:
        """Return the weight, float32: code times step."""
        return self.codes.float() * self.step.view(-1, *[1] * (self.codes.dim() - 1))


class Codes(dict[str, QuantizedWeight]):
    """The codes of a network's quantized layers by name.

    ``kept`` are the layers that stay float beside them, by name: the number of their ``weights``, and the ``reason``.
    """

    def __init__(self, *layers, kept: dict[str, dict] | None = None):
        super().__init__(*layers)
        self.kept = kept or {}
