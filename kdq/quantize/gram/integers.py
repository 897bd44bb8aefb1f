"""The Gram matrix of quantized inputs: one of integers, exact, from products of int8 with int32 sums.

Codes q of 0 .. 255 are p = q - 128 in int8. With c = zero point - 128, n rows and column sums s the matrix is
(p - c)'(p - c) = p'p - c (s 1' + 1 s') + n c^2, all integers below 2^53. A border of zeros has p = c.
"""

from collections.abc import Iterable
from functools import cache

import torch
from torch import Tensor, nn

from kdq.models.codes import Point

OFFSET = 128
ROWS = 2**17 - 1  # 128^2 times this is below 2^31


def apply_to(module: nn.Module, point: Point | None) -> bool:
    """Return whether a layer that reads ``point`` has such a matrix, on a processor that multiplies int8 fast.

    Both matrices together then take 1.0 to 1.7 times less time than in float64 (AMD EPYC with AVX-512 VNNI, one
    thread), X~'X~ alone 3 to 11 times less; its product alone 14 to 22 times less with AMX (Intel Xeon).
    """
    plain = isinstance(module, nn.Linear) or (module.groups == 1 and module.padding_mode == "zeros")
    return point is not None and plain and module.weight.device.type == "cpu" and fast_int8()


@cache
def fast_int8() -> bool:
    """Return whether this processor sums four products of int8 at once: AVX-512 VNNI or AMX."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name) for name in ("avx512_vnni", "amx_int8"))


def border(point: Point) -> int:
    """Return the shifted code of zero."""
    return point.zero_point - OFFSET


def shifted_codes(x: Tensor, point: Point) -> Tensor:
    """Return the codes, less 128, int8, of inputs that are those of codes."""
    return (torch.round(x / point.scale.to(x)) + border(point)).to(torch.int8)


def gram_matrix(columns: Iterable[Tensor], point: Point) -> Tensor:
    """Return X~'X~, (1, d, d) in float64, from shifted codes (d, n), at most ``ROWS`` samples at a time."""
    products = sums = count = 0
    for codes in columns:
        product = torch._int_mm(codes, codes.t())
        products = products.add_(product) if count else product.double()
        sums, count = sums + codes.sum(1, dtype=torch.int32).double(), count + codes.shape[1]
    zero = border(point)
    integers = products.sub_(zero * (sums[:, None] + sums)).add_(count * zero**2)
    return integers.mul_(point.scale.double().square())[None]
