"""Networks of torchvision, timm and transformers with random weights, small enough for tests."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.models.classifiers import TORCHVISION, lively

TOKENS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def _torchvision(name: str) -> Callable[[], nn.Module]:
    def make():
        from torchvision import models

        return TORCHVISION[name][1](models)

    return make


def _resnet18() -> nn.Module:
    from torchvision import models

    return models.ResNet(models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=5)  # is resnet18


def _timm() -> nn.Module:
    import timm

    return timm.create_model("test_efficientnet", num_classes=5)


def _transformers_vit() -> nn.Module:
    import transformers

    return transformers.ViTForImageClassification(transformers.ViTConfig(image_size=16, patch_size=4, **TOKENS))


def _transformers_resnet() -> nn.Module:
    import transformers

    sizes = {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 2]}
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes))


# The side of the images, and the network.
NETWORKS = {
    "resnet18": (32, _resnet18),
    "mobilenet_v3_small": (32, _torchvision("mobilenet_v3_small")),
    "densenet121": (32, _torchvision("densenet121")),
    "vit_b_16": (16, _torchvision("vit_b_16")),
    "swin_t": (32, _torchvision("swin_t")),
    "timm/test_efficientnet": (32, _timm),
    "transformers/vit": (16, _transformers_vit),
    "transformers/resnet": (32, _transformers_resnet),
}


def network_and_images(name: str) -> tuple[nn.Module, Tensor]:
    """Return a network in evaluation mode and float images for it, as after a normalisation."""
    side, make = NETWORKS[name]
    torch.manual_seed(0)
    pictures = torch.randn(8, 3, side, side)
    return lively(make().eval(), pictures), pictures
