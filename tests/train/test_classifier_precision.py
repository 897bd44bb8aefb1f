"""Under autocast to bfloat16 the classifier computes in float32: logits have 24 bits of mantissa and not 8."""

import pytest
import torch
import torch.nn.functional as F

from kdq.data.batches import Batch
from kdq.distill.teacher import Teacher
from kdq.train.device import autocast

CPU = torch.device("cpu")
ARCHITECTURES = ("resnet18", "wrn16-2", "mobilenetv2")


@pytest.fixture
def images():
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestClassifier:
    def test_logits_are_the_float32_product_of_the_embedding(self, build, images, architecture):
        network = build(architecture).eval()
        with torch.no_grad(), autocast(torch.bfloat16, CPU):
            logits, features = network(images, taps=("embedding", network.stages[-1]))
            from_map = network.head(features[network.stages[-1]])
        assert features[network.stages[-1]].dtype == torch.bfloat16  # the convolutions are not in float32
        layer, embedding = network.last_layer, features["embedding"]
        assert logits.dtype == embedding.dtype == torch.float32
        expected = F.linear(embedding.double(), layer.weight.double(), layer.bias.double())
        torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-6)
        assert torch.equal(from_map, logits)

    def test_of_a_teacher_too(self, build, images, architecture):
        batch = Batch(images, torch.zeros(4, dtype=torch.long), torch.arange(4), epoch=1)
        with autocast(torch.bfloat16, CPU):
            logits = Teacher(build(architecture)).outputs(batch).logits
        assert not torch.equal(logits, logits.bfloat16().float())

    def test_its_gradient_reaches_the_convolutions(self, build, images, architecture):
        network = build(architecture).train()
        with autocast(torch.bfloat16, CPU):
            loss = F.cross_entropy(network(images), torch.arange(4))
        loss.backward()
        assert all(parameter.grad is not None for parameter in network.parameters())

    def test_double_stays_double(self, build, images, architecture):
        assert build(architecture).double().eval()(images.double()).dtype == torch.float64

    def test_a_network_cast_to_bfloat16_stays_bfloat16(self, build, images, architecture):
        assert build(architecture).bfloat16().eval()(images.bfloat16()).dtype == torch.bfloat16
