"""Alphabets: the consecutive integers that the code of a quantized weight can take."""

import math
from dataclasses import dataclass

BITS = (2, 3, 4, 5, 6, 7, 8)  # per weight, among which a budget chooses


@dataclass(frozen=True)
class Alphabet:
    """The integer levels ``low, ..., high`` for ``bits`` and a naming of the levels; a weight is ``code * step``.

    ==========  =======================================  ==============  ============
    ``levels``  codes                                    how many        storage bits
    ==========  =======================================  ==============  ============
    ``2^b``     ``-2^(b-1) .. 2^(b-1) - 1``              2^b             b
    ``2^b-1``   ``-(2^(b-1) - 1) .. 2^(b-1) - 1``        2^b - 1         b
    ``paper``   ``-2^(b-1) .. 2^(b-1)``                  2^b + 1         b + 1
    ==========  =======================================  ==============  ============

    ``paper`` is the midtread alphabet of the published GPFQ code. It has one level too many for b bits, so its
    codes are stored with b + 1 bits each. Raises ValueError for bits below 2 or another name.
    """

    bits: int
    levels: str = "2^b"

    def __post_init__(self):
        if self.bits < 2:
            raise ValueError(f"bits: {self.bits}, expected at least 2")
        if self.levels not in ("2^b", "2^b-1", "paper"):
            raise ValueError(f"levels: {self.levels!r}, expected '2^b', '2^b-1' or 'paper'")

    @property
    def max_code(self) -> int:
        """2^(b-1), the divisor of the radius in every alphabet: step = scale * radius / max_code."""
        return 2 ** (self.bits - 1)

    @property
    def low(self) -> int:
        """The smallest code."""
        return 1 - self.max_code if self.levels == "2^b-1" else -self.max_code

    @property
    def high(self) -> int:
        """The largest code."""
        return self.max_code if self.levels == "paper" else self.max_code - 1

    @property
    def count(self) -> int:
        """How many levels there are."""
        return self.high - self.low + 1

    @property
    def storage_bits(self) -> int:
        """Whole bits that one stored code takes."""
        return (self.count - 1).bit_length()

    @property
    def nominal_bits(self) -> float:
        """log2 of the number of levels: the bits of information that a code can carry."""
        return math.log2(self.count)
