"""Integer codes as one stream of about their entropy: an adaptive range coder.

No table is stored: a sequence is coded in blocks, each with the frequencies of all blocks before it, which the decoder
counts likewise. A layer is one sequence, or one per position in the convolution's kernel if that is shorter: weights of
positions that see only padding are all zero.

The coder is the library constriction's (Bamler, Understanding entropy coding with asymmetric numeral systems: a
statistician's perspective, 2022), whose models are in fixed point: it decodes exactly.
"""

import math
from collections.abc import Iterator

import numpy as np
from constriction import stream as coding

GROWTH = 4  # a block is a fourth of all before it: few blocks, each with recent frequencies
WORD = np.dtype("<u4")


def encode(layers: list[tuple[np.ndarray, int]]) -> np.ndarray:
    """Return the stream, uint8, of layers ``(codes, levels)``: integers in 0 .. levels - 1, (N, d) or (N, C, h, w)."""
    encoder = coding.queue.RangeEncoder()
    for codes, levels in layers:
        choices = [_sequences(codes, split) for split in (False, True)]
        sizes = [_size_bits(choice, levels) for choice in choices]
        split = sizes[True] < sizes[False]
        encoder.encode(int(split), coding.model.Uniform(2))
        _encode(encoder, choices[split], levels)
    return encoder.get_compressed().astype(WORD).view(np.uint8)


def decode(stream: np.ndarray, shapes: list[tuple[tuple[int, ...], int]]) -> list[np.ndarray]:
    """Return the codes, int16, of layers of the given ``(shape, levels)``; a foreign stream may raise ValueError."""
    if len(stream) % WORD.itemsize:
        raise ValueError(f"stream: {len(stream)} bytes, expected whole words of {WORD.itemsize}")
    decoder = coding.queue.RangeDecoder(stream.view(WORD).astype(np.uint32))
    try:
        return [_decode(decoder, shape, levels) for shape, levels in shapes]
    except AssertionError as error:  # the library's error for an impossible code
        raise ValueError(f"stream: {error}") from None


def _positions(shape, split: bool) -> int:
    """Return the number of sequences of a layer: one, or one per position in the kernel."""
    return max(1, math.prod(shape[2:])) if split else 1


def _sequences(codes, split: bool) -> np.ndarray:
    """Return codes, int32 (positions, codes per position), in the order of coding."""
    positions = _positions(codes.shape, split)
    return np.ascontiguousarray(codes.reshape(codes.size // positions, positions).T, dtype=np.int32)


def _blocks(sequence, levels: int) -> Iterator[tuple]:
    """Yield ``(view of a block, its model)``; a decoder fills the block before it takes the next."""
    seen, start = np.ones(levels), 0
    while start < len(sequence):
        block = sequence[start : start + max(levels, start // GROWTH)]
        yield block, coding.model.Categorical(seen, perfect=False)
        seen += np.bincount(block, minlength=levels)
        start += len(block)


def _encode(encoder, sequences, levels: int) -> None:
    for sequence in sequences:
        for block, model in _blocks(sequence, levels):
            encoder.encode(block, model)


def _size_bits(sequences, levels: int) -> int:
    encoder = coding.queue.RangeEncoder()
    _encode(encoder, sequences, levels)
    return encoder.num_bits()


def _decode(decoder, shape, levels: int) -> np.ndarray:
    positions = _positions(shape, bool(decoder.decode(coding.model.Uniform(2))))
    sequences = np.empty((positions, math.prod(shape) // positions), dtype=np.int32)
    for sequence in sequences:
        for block, model in _blocks(sequence, levels):
            block[:] = decoder.decode(model, len(block))
    return sequences.T.reshape(shape).astype(np.int16)
