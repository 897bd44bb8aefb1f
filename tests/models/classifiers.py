"""Small random classifiers of transformers and torchvision, and images for them."""

import torch
from torch import Tensor, nn

from kdq.models import registry

TOKENS = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
WINDOWS = {"patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4}
VIT = {"patch_size": 4, **TOKENS}
TEXT = {**TOKENS, "num_hidden_layers": 1, "vocab_size": 50}
STAGES = {"hidden_sizes": [16, 24, 32], "depths": [1, 1, 1]}
# The side of the images and the configuration.
TRANSFORMERS = {
    "vit": (16, VIT),
    "deit": (16, VIT | {"architectures": ["DeiTForImageClassification"]}),
    "beit": (16, VIT | {"use_relative_position_bias": True}),
    "swin": (32, WINDOWS),
    "swinv2": (32, WINDOWS),
    "siglip": (16, {"vision_config": {"image_size": 16, **VIT}, "text_config": TEXT}),
    "bit": (32, {"embedding_size": 32, "hidden_sizes": [32, 64], "depths": [1, 2], "num_groups": 4}),
    "resnet": (32, {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [1, 1]}),
    "convnext": (32, {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2}),
    "efficientnet": (32, {"width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}),
    "mobilenet_v2": (32, {"depth_multiplier": 0.25}),
    "levit": (
        64,
        STAGES
        | {"num_attention_heads": [2, 2, 2], "key_dim": [4, 4, 4]}
        | {"architectures": ["LevitForImageClassification"]},
    ),
    "mobilevit": (
        64,
        {"hidden_sizes": STAGES["hidden_sizes"], "num_attention_heads": 2}
        | {"neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 48]},
    ),
}


def _swin(models, **blocks):
    return models.swin_transformer.SwinTransformer([2, 2], 8, [2, 2], [2, 2], [4, 4], num_classes=5, **blocks)


def _swin_v2(models):
    transformer = models.swin_transformer
    return _swin(models, block=transformer.SwinTransformerBlockV2, downsample_layer=transformer.PatchMergingV2)


TORCHVISION = {
    "vit_b_16": (16, lambda models: models.VisionTransformer(16, 4, 2, 2, 16, 24, num_classes=5)),
    "swin_t": (32, _swin),
    "swin_v2_t": (32, _swin_v2),
    "densenet121": (32, lambda models: models.DenseNet(8, (2, 2), 16, num_classes=5)),
    "mobilenet_v3_small": (32, lambda models: models.mobilenet_v3_small(num_classes=5, width_mult=0.25)),
    "regnet_y_400mf": (32, lambda models: models.regnet_y_400mf(num_classes=5)),
    "shufflenet_v2_x0_5": (32, lambda models: models.shufflenet_v2_x0_5(num_classes=5)),
    "googlenet": (32, lambda models: models.GoogLeNet(num_classes=5, init_weights=False)),
    "inception_v3": (75, lambda models: models.Inception3(num_classes=5, init_weights=False)),
    "efficientnet_b0": (32, lambda models: models.efficientnet_b0(num_classes=5)),
}


def images(side: int, count: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def lively(network: nn.Module, batch: Tensor) -> nn.Module:
    """Return the network in eval mode with outputs that depend on the images: none of its parameters is all zero.

    Statistics of normalisation are those of the batch, so that deep networks neither die out nor explode.
    """
    for parameter in network.parameters():
        if not parameter.any():
            parameter.data.normal_(0, 0.05)
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        network(batch)
    return network.eval()


def transformers_classifier(name: str) -> tuple[nn.Module, dict, Tensor]:
    """Return ``(network, architecture, images)``."""
    side, sizes = TRANSFORMERS[name]
    torch.manual_seed(0)
    config = {"model_type": name, "num_labels": 5, "image_size": side, **sizes}
    seen_as = {"size": [side, side], "resample": "bilinear", "crop": [side, side], "mean": [0.5] * 3, "std": [0.25] * 3}
    architecture = {"architecture": "transformers", "config": config, "preprocessing": seen_as}
    pictures = images(side)
    return lively(registry.build(**architecture).eval(), pictures.float() / 255), architecture, pictures


def torchvision_classifier(name: str) -> tuple[nn.Module, Tensor]:
    """Return ``(network, images)``."""
    from torchvision import models

    side, make = TORCHVISION[name]
    torch.manual_seed(0)
    pictures = images(side)
    return lively(make(models).eval(), pictures.float() / 255), pictures
