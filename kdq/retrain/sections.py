"""A residual network as functions that follow one another: its blocks dealt out in order."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor

from kdq.errors import UserError
from kdq.models.resnet import ResNet

Section = Callable[[Tensor], Tensor]


def sections(network: ResNet, count: int) -> list[Section]:
    """``count`` functions whose composition is the network: images (B, C, H, W) in [0, 1] to logits (B, classes).

    Between them are the outputs of residual blocks, of which every section has as many as the others, up to one. The
    first has the stem too, the last the pooling and the classifier. Raises UserError for more sections than blocks.
    """
    blocks = [*network.layer1, *network.layer2, *network.layer3, *network.layer4]
    if not 1 <= count <= len(blocks):
        raise UserError(f"sections: found {count}, expected 1 to {len(blocks)}, the residual blocks of the network")
    ends = [round(part * len(blocks) / count) for part in range(count + 1)]
    parts = [blocks[start:stop] for start, stop in pairwise(ends)]
    parts[0].insert(0, partial(_stem, network))
    parts[-1].append(partial(_classifier, network))
    return [partial(_in_turn, part) for part in parts]


def _stem(network: ResNet, images: Tensor) -> Tensor:
    x = (images - network.mean) / network.std
    return network.maxpool(F.relu(network.bn1(network.conv1(x)), inplace=True))


def _classifier(network: ResNet, x: Tensor) -> Tensor:
    return network.fc(x.mean((2, 3)))


def _in_turn(functions: list[Section], x: Tensor) -> Tensor:
    for function in functions:
        x = function(x)
    return x
