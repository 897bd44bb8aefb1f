"""Packed codes in an ONNX graph: bytes that index a table, which a runtime looks up once, when it loads the file.

A byte holds ``8 / b`` codes of b bits for b = 1, 2, 4, the first code in the lowest bits; ``table[byte]`` are these
codes. Codes of 3, 5, 6 and 7 bits are split into such planes, lowest bits first, whose values are added.
"""

import numpy as np

PLANES = {1: (1,), 2: (2,), 3: (1, 2), 4: (4,), 5: (1, 4), 6: (2, 4), 7: (1, 2, 4)}  # 8: int8 as it is


def table(bits: int, shift: int, offset: int, factor: int = 1) -> np.ndarray:
    """Return int8 (256, 8 / bits): ``factor`` times the values, times 2^shift plus ``offset``, of each byte's codes."""
    codes = np.arange(256)[:, None] >> np.arange(0, 8, bits)[None] & (2**bits - 1)
    return (((codes << shift) + offset) * factor).astype(np.int8)


def packed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Return the bytes, uint8, of codes in 0 .. 2^bits - 1; the last byte is padded with zeros."""
    per_byte = 8 // bits
    padded = np.zeros(-(-codes.size // per_byte) * per_byte, np.uint8)
    padded[: codes.size] = codes.ravel()
    return (padded.reshape(-1, per_byte) << np.arange(0, 8, bits, dtype=np.uint8)).sum(1).astype(np.uint8)


def planes(codes: np.ndarray, low: int, bits: int) -> list[tuple[np.ndarray, int, int, int]]:
    """Return ``(bytes, bits, shift, offset)`` per plane of codes in low .. low + 2^bits - 1.

    The sum over planes of ``table(bits, shift, offset)[bytes]`` are the codes.
    """
    rest, shift, result = codes.astype(np.int64) - low, 0, []
    for width in PLANES[bits]:
        last = shift + width == bits
        result.append((packed(rest >> shift & (2**width - 1), width), width, shift, low if last else 0))
        shift += width
    return result
