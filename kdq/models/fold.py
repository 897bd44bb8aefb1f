"""Fold each BatchNorm of a frozen network into the convolution before it."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdq.models.network import Network


def fold_batchnorm(network: nn.Module) -> nn.Module:
    """Return a copy in eval mode that computes the same up to rounding, with a third fewer passes over the activations.

    Folded are the pairs ``convN``, ``bnN`` of a module, and a convolution followed by a BatchNorm in a sequence; any
    other BatchNorm stays, such as one before a ReLU and a convolution. A network that is not of this package stays as
    it is: its names do not tell what computes after what.
    """
    folded = copy.deepcopy(network).eval()
    for module in list(folded.modules()) if isinstance(network, Network) else ():
        children = dict(module.named_children())
        pairs = [(name, name.replace("conv", "bn")) for name in children if name.startswith("conv")]
        if isinstance(module, nn.Sequential):
            pairs += zip(children, list(children)[1:], strict=False)
        for first, second in pairs:
            convolution, norm = children.get(first), children.get(second)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                setattr(module, second, nn.Identity())
    return folded
