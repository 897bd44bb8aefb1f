"""Packing then unpacking is the identity, at exactly the bits that were asked for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdq.models.packing import pack, unpack
from kdq.quantize.bits.alphabet import Alphabet


@settings(max_examples=150, deadline=None)
@given(bits=st.integers(1, 16), count=st.integers(0, 50), seed=st.integers(0, 10**6), data=st.data())
def test_round_trip(bits, count, seed, data):
    low = data.draw(st.integers(-(2**15), 2**15 - 2**bits))
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(low, low + 2**bits, (count,), generator=generator, dtype=torch.int32)
    packed = pack(codes, low, bits)
    assert packed.dtype == torch.uint8 and packed.numel() == -(-count * bits // 8)
    assert unpack(packed, count, low, bits).equal(codes.to(torch.int16))


@pytest.mark.parametrize("bits", range(1, 17))
def test_the_stream_is_the_binary_number_it_says(bits):
    codes = torch.randint(0, 2**bits, (21,), generator=torch.Generator().manual_seed(bits))
    number = sum(int(code) << (bits * index) for index, code in enumerate(codes))
    assert bytes(pack(codes, 0, bits).tolist()) == number.to_bytes(-(-21 * bits // 8), "little")


@pytest.mark.parametrize("levels", ["2^b", "2^b-1", "paper"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_every_level_fits_its_storage(bits, levels):
    alphabet = Alphabet(bits, levels)
    every = torch.arange(alphabet.low, alphabet.high + 1, dtype=torch.int16)
    assert len(every) == alphabet.count == {"2^b": 2**bits, "2^b-1": 2**bits - 1, "paper": 2**bits + 1}[levels]
    assert alphabet.storage_bits == bits + (levels == "paper")
    packed = pack(every, alphabet.low, alphabet.storage_bits)
    assert unpack(packed, alphabet.count, alphabet.low, alphabet.storage_bits).equal(every)


@pytest.mark.parametrize("code", [-9, 8])
def test_codes_out_of_range_are_refused(code):
    with pytest.raises(ValueError, match="-8 .. 7 for 4 bits"):
        pack(torch.tensor([0, code]), -8, 4)


def test_wrong_sizes_are_refused():
    packed = pack(torch.zeros(10, dtype=torch.int16), 0, 3)
    for wrong in (packed[:-1], packed.int(), packed[None]):
        with pytest.raises(ValueError, match="expected a uint8 vector of 4 bytes"):
            unpack(wrong, 10, 0, 3)
    with pytest.raises(ValueError, match="expected integers"):
        pack(torch.zeros(3), 0, 4)
    for bits in (0, 17):
        with pytest.raises(ValueError, match="expected 1 to 16"):
            pack(torch.zeros(3, dtype=torch.int16), 0, bits)


@pytest.mark.parametrize(("bits", "levels"), [(1, "2^b"), (4, "2^b+1")])
def test_alphabets_that_do_not_exist(bits, levels):
    with pytest.raises(ValueError, match="expected"):
        Alphabet(bits, levels)
