"""A teacher with quantized activations: students learn from the network that its file computes."""

import copy

import pytest
import torch

from kdq.data.batches import Batch
from kdq.distill.stage import distill
from kdq.distill.teacher import Teacher
from kdq.distill.teacher_cache import logits_of_views
from kdq.errors import UserError
from kdq.models.integer import to_integer
from kdq.quantize.execution.network import quantize
from kdq.quantize.quantizer import quantizer_of
from kdq.recipe.stages import find_stages
from tests.distill.samples import batches


@pytest.fixture
def integer(build, few):
    """A network with integer weights and activations, as a model file gives it."""
    network = build(seed=1)
    for _ in range(3):
        network.train()(few.train.images[:64].float() / 255)
    quantizer = quantizer_of("kdq.quantize.methods.rtn", {"bits": 4, "activations": 4}, 0)
    codes = quantize(network, few.train.images[:32], quantizer, log=lambda line: None)
    return to_integer(network, codes)


@pytest.fixture
def train(home, few, tmp_path):
    def train(name, parent, **changes):
        small = {"width": 0.0625, "epochs": 1, "batch_size": 32, "crop": 1, "flip": False, "precision": "float32"}
        keys = find_stages(home / "kdq")[name].keys(**{**small, **changes}).model_dump()
        places = {"checkpoint": tmp_path / "checkpoint.pt", "identity": name, "log": lambda line: None}
        return distill(few, parent, f"kdq.distill.methods.{name}", keys, seed=0, threads=1, **places)

    return train


def test_its_outputs_are_those_of_the_network_itself(integer):
    batch, taps = next(batches()), integer.taps
    expected_logits, expected = integer(batch.images, taps=taps)
    outputs = Teacher(integer).outputs(batch, taps)
    torch.testing.assert_close(outputs.logits, expected_logits, rtol=1e-4, atol=1e-4)
    for tap in taps:
        torch.testing.assert_close(outputs.features[tap], expected[tap], rtol=1e-4, atol=1e-4)
    floats = copy.deepcopy(integer)
    for quantizer in floats.activation_quantizers:
        quantizer.bits, quantizer.scale = 24, quantizer.scale / 2**20
        quantizer.zero_point *= 2**20
    assert (floats(batch.images) - expected_logits).norm() > 0.01 * expected_logits.norm()


def test_the_cache_holds_its_logits(integer, few):
    options = {"crop": 0, "flip": False, "dtype": torch.float32, "device": torch.device("cpu")}
    (cached,) = logits_of_views(integer, few, log=lambda line: None, **options)
    images = few.train.images.float() / 255
    labels = few.train.labels
    expected = Teacher(integer).outputs(Batch(images, labels, torch.arange(len(labels)), epoch=0)).logits
    assert torch.equal(cached, expected.half())


@pytest.mark.parametrize("name", ["kd", "fitnet"])
def test_students_learn_from_it(integer, train, name):
    before = copy.deepcopy(integer.state_dict())
    trained = train(name, integer)
    assert trained.codes == {} and not hasattr(trained.network, "activation_quantizers")
    assert all(torch.equal(value, before[key]) for key, value in integer.state_dict().items())


def test_no_peer_begins_as_such_a_network(integer, train):
    with pytest.raises(UserError, match="dml: start: found parent, whose quantized activations have no gradient"):
        train("dml", integer)
    train("dml", integer, start="fresh")
