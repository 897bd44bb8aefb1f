"""The network that computes as an integer runtime does: room for finer biases, and biases rounded in place."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdq.errors import UserError
from kdq.models import folding
from kdq.models.activations import quantized_activations
from kdq.models.codes import Point, QuantizedWeight
from kdq.models.file import to_network
from kdq.models.folding import FoldedLayer, integer_bias, room
from kdq.models.integer import folded_layers, round_biases, to_integer
from kdq.models.tracing import folded_norms
from kdq.quantize.bits.alphabet import Alphabet
from kdq.quantize.quantizer import quantizer_of
from kdq.quantize.stage import quantize_stage
from tests.deploy.conftest import images, model_of, network_of  # noqa: F401, fixtures

ALPHABETS = [
    Alphabet(bits, levels)
    for bits in range(2, 9)
    for levels in ("2^b", "2^b-1", "paper")
    if (bits, levels) != (8, "paper")
]


def layer(alphabet: Alphabet, biases, step=0.02) -> FoldedLayer:
    """Return a folded layer of codes from lowest to highest, a row per bias."""
    codes = torch.arange(alphabet.low, alphabet.high + 1).short().repeat(len(biases), 1)
    bounds = alphabet.low, alphabet.high, alphabet.storage_bits
    return FoldedLayer(None, QuantizedWeight(codes, torch.full((len(biases),), step), *bounds), torch.tensor(biases))


def point(bits: int, scale: float = 0.25) -> Point:
    return Point(("layer",), bits, torch.tensor(scale), 0)


class TestRoom:
    @pytest.mark.parametrize("alphabet", ALPHABETS, ids=str)
    @pytest.mark.parametrize("activation_bits", [4, 7, 8])
    def test_is_all_there_is(self, alphabet, activation_bits):
        """Codes stay int8, and two products with the largest activation within int16, unless they were not before."""

        def fits(factor):
            low, high = factor * alphabet.low, factor * alphabet.high
            pair = 2 * (2**activation_bits - 1)
            return low >= -128 and high <= 127 and pair * low >= -(2**15) and pair * high < 2**15

        factor = room(layer(alphabet, [0.0]).codes, activation_bits)
        assert factor in (1, 2, 4, 8, 16, 32, 64) and not fits(2 * factor)
        assert fits(factor) or factor == 1

    def test_of_a_few(self):
        factors = {bits: [room(layer(Alphabet(bits), [0.0]).codes, a) for a in (4, 8)] for bits in (2, 3, 4, 7, 8)}
        assert factors == {2: [64, 32], 3: [32, 16], 4: [16, 8], 7: [2, 1], 8: [1, 1]}


class TestBias:
    @given(st.sampled_from(ALPHABETS), st.sampled_from([4, 8]), st.lists(st.floats(-50, 50, width=32), min_size=1))
    def test_is_within_half_a_unit_of_the_larger_codes(self, alphabet, activation_bits, biases):
        before = layer(alphabet, biases)
        after, codes = integer_bias(before, point(activation_bits), "layer")
        unit = 0.02 * 0.25 / room(before.codes, activation_bits)
        assert codes.dtype == torch.int32 and after.factor == room(before.codes, activation_bits)
        assert ((after.bias - before.bias).abs() <= unit / 2 + 1e-5).all()
        assert torch.allclose(codes * unit, after.bias, rtol=1e-5)
        assert torch.equal(after.decoded(), before.decoded())

    def test_a_large_one_gets_coarser_units(self):
        """In units of 0.02 x 0.25 / 16 it is beyond int32, without the factor it is not."""
        after, codes = integer_bias(layer(Alphabet(4), [5e6]), point(4), "layer")
        assert after.factor == 8 / 4 and codes.item() == pytest.approx(5e6 / (0.02 * 0.25 / 2), rel=1e-6)

    def test_one_beyond_int32_is_refused(self):
        with pytest.raises(UserError, match=r"layer: the bias 2e\+07 of output 1 exceeds int32 in units of 0.005$"):
            integer_bias(layer(Alphabet(4), [1.0, 2e7]), point(4), "layer")

    def test_of_a_row_without_weights_is_fine(self):
        after, codes = integer_bias(layer(Alphabet(2), [1.7, -0.3], step=0.0), point(4), "layer")
        assert torch.allclose(after.bias, torch.tensor([1.7, -0.3]), rtol=1e-6) and codes.abs().min() >= folding.FINE


class TestRoundedInPlace:
    @torch.no_grad()
    @pytest.mark.parametrize("architecture", ["resnet18", "wrn16-2"])
    @pytest.mark.parametrize("activations", [4, 8])
    def test_it_is_the_integer_network(self, model_of, architecture, activations):  # noqa: F811
        """For most images what is left is float rounding, which moves no activation into the next code."""
        file, x = model_of(architecture, activations=activations), images(64).float() / 255
        network = to_network(file, integer=False)
        expected = to_integer(copy.deepcopy(network), file.codes)(x)

        def median_error():
            with quantized_activations(network, file.codes.points):
                return float((network(x) - expected).abs().amax(1).median() / expected.abs().max())

        before = median_error()
        round_biases(network, file.codes)
        assert median_error() < 3e-6 < 1e-5 < before

    @torch.no_grad()
    def test_a_quantizer_leaves_them_in_the_network(self, network_of, few):  # noqa: F811
        network = network_of(channels=1, classes=10, mean=[0.3], std=[0.4])
        quantizer = quantizer_of("kdq.quantize.methods.rtn", {"bits": 4, "activations": 8, "images": 16}, 0)
        device = torch.device("cpu")
        codes = quantize_stage(network, few, quantizer, seed=0, device=device, log=lambda line: None)
        x = few.test.images.float() / 255
        expected = to_integer(copy.deepcopy(network), codes)(x)
        with quantized_activations(network, codes.points):
            assert (network(x) - expected).abs().amax(1).median() < 3e-6 * expected.abs().max()

    def test_again_changes_no_code(self, model_of):  # noqa: F811
        file = model_of(activations=4)
        network = to_network(file, integer=False)
        norms = folded_norms(network)
        before = {name: bias for name, (_, bias) in folded_layers(network, file.codes, norms).items()}
        round_biases(network, file.codes)
        after = {name: bias for name, (_, bias) in folded_layers(network, file.codes, norms).items()}
        for name, codes in before.items():
            assert torch.equal(after[name][1:], codes[1:])  # the first outputs have gain 0 and units of their own

    def test_without_quantized_activations_nothing_changes(self, model_of):  # noqa: F811
        file = model_of(activations=0)
        network = to_network(file)
        before = copy.deepcopy(network.state_dict())
        round_biases(network, file.codes)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
