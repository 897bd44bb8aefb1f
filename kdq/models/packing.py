"""Integer codes as one stream of bits: exactly ``bits`` bits per code, the last byte padded with zeros.

Code i, less ``low``, takes the bits ``i * bits`` to ``(i + 1) * bits - 1`` of the stream, lowest bit first; bit k of
the stream is the bit of value 2^(k mod 8) in byte k // 8.
"""

import torch


def packed_size_bytes(count: int, bits: int) -> int:
    """Return the bytes that ``count`` codes of ``bits`` bits take."""
    return (count * bits + 7) // 8


def pack(codes: torch.Tensor, low: int, bits: int) -> torch.Tensor:
    """Pack integer codes of any shape, read in row-major order, to a uint8 vector of ceil(count * bits / 8) bytes.

    Codes lie in ``low .. low + 2^bits - 1``; ``bits`` is 1 to 16. Raise ValueError for a code outside or other bits.
    """
    _check_bits(bits)
    if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise ValueError(f"codes: dtype {codes.dtype}, expected integers")
    codes = codes.detach().reshape(-1).cpu()
    count = codes.numel()
    if count == 0:
        return torch.zeros(0, dtype=torch.uint8)
    smallest, largest = (int(value) for value in torch.aminmax(codes))
    if smallest < low or largest >= low + 2**bits:
        raise ValueError(f"codes: {smallest} .. {largest}, expected {low} .. {low + 2**bits - 1} for {bits} bits")
    # Eight codes fill exactly `bits` bytes: a column of a (groups, 8) table goes to fixed bytes at a fixed shift.
    table = torch.zeros(-(-count // 8) * 8, dtype=torch.int32)
    table[:count] = codes.int() - low if codes.dtype != torch.int64 else (codes - low).int()
    table = table.view(-1, 8)
    packed = torch.zeros(table.shape[0], bits, dtype=torch.uint8)
    for column in range(8):
        byte, shift = divmod(column * bits, 8)
        shifted = table[:, column] << shift
        for part in range((shift + bits + 7) // 8):
            packed[:, byte + part] |= ((shifted >> (8 * part)) & 255).to(torch.uint8)
    return packed.view(-1)[: packed_size_bytes(count, bits)].clone()


def unpack(packed: torch.Tensor, count: int, low: int, bits: int) -> torch.Tensor:
    """Return the ``count`` codes in ``packed``, the inverse of :func:`pack`, as an int16 vector.

    Raise ValueError if ``packed`` is not a uint8 vector of ceil(count * bits / 8) bytes or codes exceed int16.
    """
    _check_bits(bits)
    if low < -(2**15) or low + 2**bits > 2**15:
        raise ValueError(f"low: {low}, expected codes of {bits} bits within -32768 .. 32767")
    expected = packed_size_bytes(count, bits)
    if packed.dtype != torch.uint8 or packed.dim() != 1 or packed.numel() != expected:
        found = f"{packed.dtype} of shape {tuple(packed.shape)}"
        raise ValueError(f"packed: {found}, expected a uint8 vector of {expected} bytes for {count} codes")
    rows = -(-count // 8)
    stream = torch.zeros(rows * bits, dtype=torch.uint8)
    stream[:expected] = packed.cpu()
    stream = stream.view(rows, bits)
    codes = torch.empty(rows, 8, dtype=torch.int16)
    for column in range(8):
        byte, shift = divmod(column * bits, 8)
        word = torch.zeros(rows, dtype=torch.int32)
        for part in range((shift + bits + 7) // 8):
            word |= stream[:, byte + part].int() << (8 * part)
        codes[:, column] = ((word >> shift) & (2**bits - 1)) + low
    return codes.view(-1)[:count].clone()


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 16:
        raise ValueError(f"bits: {bits}, expected 1 to 16")
