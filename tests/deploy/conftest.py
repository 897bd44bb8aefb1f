"""Random networks with quantized layers and activations."""

import pytest
import torch
from torch import nn

from kdq.models import registry
from kdq.models.codes import Codes, QuantizedWeight
from kdq.models.file import ModelFile
from kdq.quantize.activation_ranges import measured_points
from kdq.quantize.bits.alphabet import Alphabet


@pytest.fixture(scope="session")
def network_of():
    def network_of(architecture="resnet18", width=0.125, **changes) -> nn.Module:
        """Return a random network; a fifth of its BatchNorm gains are negative, the first of each is 0."""
        torch.manual_seed(0)
        arguments = {"classes": 7, "channels": 3, "stem": "cifar", "mean": [0.4] * 3, "std": [0.3] * 3, **changes}
        network = registry.build(architecture=architecture, width=width, **arguments).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, -0.25, 1)
                nn.init.normal_(module.bias, std=0.5)
                nn.init.normal_(module.running_mean, std=0.5)
                module.weight.data[0] = 0
        return network

    return network_of


@pytest.fixture(scope="session")
def model_of(network_of):
    def model_of(architecture="resnet18", bits=4, levels="2^b", activations=0, **changes) -> ModelFile:
        """Return the content of a model file: the network's weights rounded, its activations' ranges measured."""
        network, codes = network_of(architecture, **changes), Codes()
        alphabet = Alphabet(bits, levels)
        for name, module in network.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                weight = module.weight.detach()
                step = weight.flatten(1).std(1) * 3 / 2 ** (bits - 1)
                ratio = weight / step.view(-1, *[1] * (weight.dim() - 1))
                rounded = ratio.round().clamp(alphabet.low, alphabet.high).to(torch.int16)
                bounds = alphabet.low, alphabet.high, alphabet.storage_bits
                codes[name] = QuantizedWeight(rounded, step, *bounds, {"bits": bits, "levels": levels})
                module.weight.data = codes[name].decode()
        codes.points = measured_points(network, codes, images(16), activations, "mse") if activations else ()
        floats = {key: value for key, value in network.state_dict().items() if key.removesuffix(".weight") not in codes}
        return ModelFile({"architecture": network.architecture, "layers": {}}, floats, codes)

    return model_of


def images(count: int, size: int = 16) -> torch.Tensor:
    """Return uint8 images (count, 3, size, size)."""
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
