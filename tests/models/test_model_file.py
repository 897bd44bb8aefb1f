"""The one model file: what is written comes back, takes the bytes it should, and a broken one is named in one line."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kdq import models
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.codes import Codes, QuantizedWeight

SMALL = {"architecture": "resnet18", "classes": 10, "channels": 1, "stem": "cifar", "width": 0.0625}
ARCHITECTURE = {**SMALL, "mean": [0.3], "std": [0.4]}
HEADER = {"recipe": "teacher/rtn,bits=4", "dataset": "digits", "seed": 0, "keys": {"bits": 4}, "provenance": {}}


def random_codes(network, bits: int, rows: bool = True, seed: int = 0) -> Codes:
    """Random codes for every layer, with its decoded weight put in the network."""
    generator = torch.Generator().manual_seed(seed)
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    codes = Codes()
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            values = torch.randint(low, high + 1, module.weight.shape, generator=generator).to(torch.int16)
            step = torch.rand(len(values) if rows else 1, generator=generator) + 0.01
            codes[name] = QuantizedWeight(values, step, low, high, bits, {"bits": bits, "levels": "2^b"})
            module.weight.data = codes[name].decode()
    return codes


@pytest.fixture
def quantized(build, tmp_path):
    """A small network with odd bits, and its file."""
    network = build()
    path = tmp_path / "model.safetensors"
    model_file.save(path, network, ARCHITECTURE, random_codes(network, 3), **HEADER)
    return network, path


def rewrite(path, change_tensors=None, change_header=None) -> None:
    """The same file with other tensors or another header, as a well-formed safetensors file."""
    tensors = load_file(path)
    header = model_file.read(path).header
    if change_tensors:
        change_tensors(tensors)
    if change_header:
        change_header(header)
    save_file(tensors, path, metadata={"kdq": json.dumps(header)})


def refused(path, match: str) -> None:
    with pytest.raises(UserError, match=match) as error:
        models.load(path)
    message = str(error.value)
    assert str(path) in message and "\n" not in message and len(message) < 500 + len(str(path))


class TestRoundTrip:
    def test_float_network_bit_for_bit(self, build, tmp_path):
        network = build().eval()
        network(torch.rand(4, 1, 8, 8))
        for name in ("a", "b"):
            model_file.save(tmp_path / name, network, ARCHITECTURE, Codes(), **HEADER)
        again = models.load(tmp_path / "a")
        state = network.state_dict()
        assert list(again.state_dict()) == list(state)
        assert all(torch.equal(value, state[key]) for key, value in again.state_dict().items())
        assert not again.training
        images = torch.rand(3, 1, 8, 8)
        assert torch.equal(again(images), network(images))

    def test_normalisation_comes_back(self, build, tmp_path):
        model_file.save(tmp_path / "model", build(), ARCHITECTURE, Codes(), **HEADER)
        again = models.load(tmp_path / "model")
        assert again.mean.flatten().tolist() == pytest.approx([0.3])
        assert again.std.flatten().tolist() == pytest.approx([0.4])

    @pytest.mark.parametrize("rows", [True, False], ids=["a step a row", "a step a layer"])
    @pytest.mark.parametrize("bits", [2, 3, 5, 7, 8])
    def test_codes_of_any_bits(self, build, tmp_path, bits, rows):
        network = build()
        codes = random_codes(network, bits, rows)
        model_file.save(tmp_path / "model", network, ARCHITECTURE, codes, **HEADER)
        read = model_file.read(tmp_path / "model")
        assert set(read.codes) == set(codes)
        for name, weight in read.codes.items():
            assert torch.equal(weight.codes, codes[name].codes) and weight.codes.dtype == torch.int16
            assert torch.equal(weight.step, codes[name].step)
            assert (weight.low, weight.high, weight.storage_bits) == (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, bits)
            assert weight.facts == {"bits": bits, "levels": "2^b"}
        loaded = dict(models.load(tmp_path / "model").named_modules())
        for name, weight in codes.items():
            expected = weight.codes.float() * weight.step.view(-1, *[1] * (weight.codes.dim() - 1))
            assert torch.equal(loaded[name].weight, expected)
        images = torch.rand(2, 1, 8, 8)
        assert torch.equal(models.load(tmp_path / "model")(images), network.eval()(images))

    def test_the_published_alphabet_takes_a_bit_more(self, build, tmp_path):
        network, facts = build(), {"bits": 2, "levels": "paper"}
        codes = Codes({"fc": QuantizedWeight(torch.randint(-2, 3, (10, 32)).short(), torch.ones(1), -2, 2, 3, facts)})
        model_file.save(tmp_path / "model", network, ARCHITECTURE, codes, **HEADER)
        assert torch.equal(model_file.read(tmp_path / "model").codes["fc"].codes, codes["fc"].codes)

    def test_the_header_says_how_it_was_made(self, quantized):
        header = model_file.read(quantized[1]).header
        assert {key: header[key] for key in HEADER} == HEADER
        assert header["architecture"] == ARCHITECTURE

    @settings(max_examples=30)
    @given(st.data())
    def test_any_shape_any_bits(self, tmp_path_factory, data):
        bits = data.draw(st.integers(2, 9))
        shape = data.draw(st.lists(st.integers(1, 5), min_size=2, max_size=4))
        low = data.draw(st.integers(-300, 300))
        values = torch.randint(low, low + 2**bits, shape).short()
        network = torch.nn.Module()
        network.layer = torch.nn.Module()
        network.layer.weight = torch.nn.Parameter(torch.zeros(shape))
        path = tmp_path_factory.mktemp("model") / "model.safetensors"
        code = QuantizedWeight(values, torch.ones(shape[0]), low, low + 2**bits - 1, bits)
        model_file.save(path, network, {}, Codes({"layer": code}))
        assert torch.equal(model_file.read(path).codes["layer"].codes, values)


class TestBytes:
    def test_the_same_content_gives_the_same_bytes(self, build, tmp_path):
        for name, header in (("a", HEADER), ("b", dict(reversed(HEADER.items())))):
            network = build()
            model_file.save(tmp_path / name, network, ARCHITECTURE, random_codes(network, 3), **header)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    @pytest.mark.parametrize("bits", [2, 3, 4])
    def test_size_is_that_of_the_bits(self, build, tmp_path, bits):
        """ResNet-18 of full width: within 2 % of bits / 8 bytes a weight and the float remainder."""
        network = build(width=1.0, channels=3, mean=[0.5] * 3, std=[0.2] * 3)
        codes = random_codes(network, bits)
        architecture = {**ARCHITECTURE, "channels": 3, "width": 1.0, "mean": [0.5] * 3, "std": [0.2] * 3}
        model_file.save(tmp_path / "model", network, architecture, codes, **HEADER)
        weights = sum(weight.codes.numel() for weight in codes.values())
        steps = sum(4 * weight.step.numel() for weight in codes.values())
        state = network.state_dict()
        floats = sum(state[key].nbytes for key in state if key.removesuffix(".weight") not in codes)
        size = (tmp_path / "model").stat().st_size
        assert weights * bits / 8 < size
        assert size == pytest.approx(weights * bits / 8 + steps + floats, rel=0.02)


class TestBroken:
    def test_missing(self, tmp_path):
        refused(tmp_path / "model.safetensors", "no such file")

    def test_a_folder(self, tmp_path):
        refused(tmp_path, "found a folder")

    def test_truncated_anywhere(self, quantized):
        path = quantized[1]
        whole = path.read_bytes()
        for size in (0, 1, 7, 8, 9, 100, 3000, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:size])
            refused(path, "not a readable safetensors file")

    def test_bytes_flipped_in_the_header(self, quantized):
        """Every single flipped byte is either refused in one line or leaves a file that still can be read."""
        path = quantized[1]
        whole = path.read_bytes()
        length = 8 + int.from_bytes(whole[:8], "little")
        for position in [*range(10), *range(10, length, 97)]:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x15]) + whole[position + 1 :])
            try:
                models.load(path)
            except UserError as error:
                assert str(path) in str(error) and "\n" not in str(error)

    def test_a_text_file(self, tmp_path):
        (tmp_path / "model").write_text("not a model\n" * 100)
        refused(tmp_path / "model", "not a readable safetensors file")

    def test_a_foreign_safetensors_file(self, tmp_path):
        save_file({"weight": torch.zeros(2)}, tmp_path / "model")
        refused(tmp_path / "model", "foreign safetensors file, without the metadata key 'kdq'")

    def test_metadata_that_is_not_json(self, tmp_path):
        save_file({"weight": torch.zeros(2)}, tmp_path / "model", metadata={"kdq": "{"})
        refused(tmp_path / "model", "is not JSON")

    @pytest.mark.parametrize("header", ["[]", "{}", '{"format": "kdq-data/1"}', "3", "null"])
    def test_another_format(self, tmp_path, header):
        save_file({"weight": torch.zeros(2)}, tmp_path / "model", metadata={"kdq": header})
        refused(tmp_path / "model", "expected 'kdq-model/1'")

    @pytest.mark.parametrize("name", ["bn1.weight", "fc.weight.codes", "fc.weight.step", "fc.bias"])
    def test_a_tensor_is_missing(self, quantized, name):
        rewrite(quantized[1], lambda tensors: tensors.pop(name))
        refused(quantized[1], name)

    def test_a_tensor_too_many(self, quantized):
        rewrite(quantized[1], lambda tensors: tensors.update(more=torch.zeros(1)))
        refused(quantized[1], "more")

    def test_a_tensor_of_another_shape(self, quantized):
        rewrite(quantized[1], lambda tensors: tensors.update({"bn1.weight": torch.zeros(5)}))
        refused(quantized[1], "bn1.weight")

    def test_too_few_bytes_of_codes(self, quantized):
        rewrite(quantized[1], lambda tensors: tensors.update({"fc.weight.codes": torch.zeros(5, dtype=torch.uint8)}))
        refused(quantized[1], "quantized layers do not fit")

    def test_steps_that_fit_no_row(self, quantized):
        rewrite(quantized[1], lambda tensors: tensors.update({"fc.weight.step": torch.ones(7)}))
        refused(quantized[1], r"layer fc: steps \(7,\), expected one or one per row")

    def test_a_code_outside_its_alphabet(self, quantized):
        def narrow(header):
            header["layers"]["fc"]["high"] = 1

        rewrite(quantized[1], change_header=narrow)
        refused(quantized[1], r"layer fc: a code outside -4\.\.1")

    @pytest.mark.parametrize("key", ["shape", "low", "high", "storage_bits"])
    def test_a_layer_without_a_key(self, quantized, key):
        rewrite(quantized[1], change_header=lambda header: header["layers"]["fc"].pop(key))
        refused(quantized[1], key)

    @pytest.mark.parametrize("key", ["layers", "architecture"])
    def test_a_header_without_a_key(self, quantized, key):
        rewrite(quantized[1], change_header=lambda header: header.pop(key))
        refused(quantized[1], key)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("width", "wide"), ("classes", "ten"), ("mean", None), ("new", 1)),
            ("architecture", "resnet81"),
            ("stem", "cifra"),
        ],
    )
    def test_an_architecture_that_cannot_be_built(self, quantized, key, value):
        rewrite(quantized[1], change_header=lambda header: header["architecture"].update({key: value}))
        refused(quantized[1], "do not fit|does not exist")

    @pytest.mark.parametrize(("key", "value"), [("width", 1e6), ("classes", 2**40), ("channels", 2**40)])
    def test_a_network_larger_than_its_file_takes_no_memory(self, quantized, key, value):
        change = {key: value} | ({"mean": [0.3], "std": [0.4]} if key == "channels" else {})
        rewrite(quantized[1], change_header=lambda header: header["architecture"].update(change))
        refused(quantized[1], r"weight is \(")

    def test_steps_that_would_blow_up_a_layer(self, quantized):
        rewrite(quantized[1], lambda tensors: tensors.update({"fc.weight.step": torch.ones(100_000, 1)}))
        refused(quantized[1], r"layer fc: steps \(100000, 1\)")

    @pytest.mark.parametrize("key", ["mean", "std"])
    @pytest.mark.parametrize("value", [[], [0.3, 0.3], [[0.3, 0.3, 0.3]]])
    def test_statistics_of_other_channels(self, quantized, key, value):
        rewrite(quantized[1], change_header=lambda header: header["architecture"].update({key: value}))
        refused(quantized[1], f"{key} has the shape .*, expected 1 values, one per channel")

    @pytest.mark.parametrize("value", [None, [], "fc", {"fc": None}, {"fc": []}, {"fc": {"shape": "x"}}])
    def test_layers_of_another_kind(self, quantized, value):
        rewrite(quantized[1], change_header=lambda header: header.update(layers=value))
        refused(quantized[1], "do not fit")
