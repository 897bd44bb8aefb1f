"""Modules that compute with weights of their own making, replaced by plain layers that compute the same.

Only the weight of a plain nn.Conv2d or nn.Linear can be quantized. An nn.MultiheadAttention holds those of three
projections in one parameter; a weight-standardized convolution of transformers' BiT computes with another weight than
it stores. A model file names the modules that were replaced, so that loading replaces them too.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KEY = "plain_layers"  # of an architecture: the names of the replaced modules


class ProjectedAttention(nn.Module):
    """Multi-head attention with a linear layer per projection; arguments and results as nn.MultiheadAttention's."""

    # An nn.TransformerEncoderLayer asks for these before it computes with one packed weight, and does not.
    _qkv_same_embed_dim, in_proj_bias = False, None

    def __init__(self, attention: nn.MultiheadAttention):
        super().__init__()
        self.embed_dim, self.num_heads, self.head_dim = attention.embed_dim, attention.num_heads, attention.head_dim
        self.dropout, self.batch_first = attention.dropout, attention.batch_first
        for name, weight, bias in zip("qkv", _weights(attention), _biases(attention), strict=True):
            self.add_module(f"{name}_proj", _linear(weight, bias))
        self.out_proj = _linear(attention.out_proj.weight, attention.out_proj.bias)
        self.train(attention.training)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,  # a hint: the mask itself is given
    ) -> tuple[Tensor, Tensor | None]:
        batched = query.dim() == 3
        if batched and not self.batch_first:
            query, key, value = (part.transpose(0, 1) for part in (query, key, value))
        elif not batched:
            query, key, value = (part[None] for part in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask[None]
        projections = zip((self.q_proj, self.k_proj, self.v_proj), (query, key, value), strict=True)
        heads = [layer(part).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for layer, part in projections]
        outputs, weights = self._attend(*heads, _added(attn_mask, key_padding_mask, heads[0]), need_weights)
        outputs = self.out_proj(outputs.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return outputs[0], None if weights is None else weights[0]
        return outputs if self.batch_first else outputs.transpose(0, 1), weights

    def _attend(self, query, key, value, mask, need_weights):
        """Return outputs (B, heads, L, features per head), and the weights (B, heads, L, S) if they are needed."""
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return F.scaled_dot_product_attention(query, key, value, mask, dropout), None
        scores = query * self.head_dim**-0.5 @ key.mT
        weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
        return weights @ value, weights


class FoldedConv2d(nn.Conv2d):
    """A convolution with the standardized weight of another; as that one it pads its input first if ``pad`` is set."""

    def __init__(self, convolution: nn.Conv2d):
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
        weight = convolution.weight
        super().__init__(
            *(getattr(convolution, name) for name in names),
            bias=convolution.bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.weight, self.bias = nn.Parameter(_standardized(convolution)), convolution.bias
        if convolution.pad is not None:  # before the layer is called: its input is what it convolves
            self.register_forward_pre_hook(_Padding(convolution.pad))
        self.train(convolution.training)


class _Padding:
    """A hook that pads the input of a layer."""

    def __init__(self, pad: nn.Module):
        self.pad = pad

    def __call__(self, layer, arguments):
        return (self.pad(*arguments),)


def replace(network: nn.Module, names: Iterable[str] | None = None) -> nn.Module:
    """Replace the modules called ``names`` in place (all that can be, if None) and return the network.

    In eval mode it computes the same up to rounding. Raises ValueError or AttributeError for a name of another module.
    """
    if names is None:
        names = [name for name, module in network.named_modules() if _replacement(module)]
    for name in names:
        module = network.get_submodule(name)
        if not (kind := _replacement(module)):
            raise ValueError(f"{name}: {type(module).__name__} has no plain layers to be replaced by")
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, kind(module))
    return network


def replaced(network: nn.Module) -> list[str]:
    """Return the names of the modules that :func:`replace` has made."""
    kinds = ProjectedAttention | FoldedConv2d
    return [name for name, module in network.named_modules() if isinstance(module, kinds)]


def described(architecture: dict, network: nn.Module) -> dict:
    """Return the arguments of :func:`kdq.models.registry.build` that make the network with its replaced modules."""
    names = replaced(network)
    return {**architecture, KEY: names} if names else architecture


def outline(shapes: dict[str, tuple], names: Iterable[str]) -> dict[str, tuple]:
    """Return the ``shapes`` of tensors by name without those of replaced attentions, whose names change."""
    packed = {f"{name}.{part}" for name in names for part in ("in_proj_weight", "in_proj_bias", *_separate())}
    return {name: shape for name, shape in shapes.items() if name not in packed}


def _separate() -> list[str]:
    return [f"{name}_proj_weight" for name in "qkv"]


def _replacement(module: nn.Module) -> type[nn.Module] | None:
    """Return the class that replaces a module, None if nothing does."""
    if type(module) is nn.MultiheadAttention:
        further = module.bias_k is not None or module.add_zero_attn  # more keys and values than inputs
        return None if further else ProjectedAttention
    # by name: the class may be that of a network that was never imported
    kind = type(module)
    standardized = kind.__name__ == "WeightStandardizedConv2d" and kind.__module__.startswith("transformers.")
    return FoldedConv2d if standardized else None


def _weights(attention: nn.MultiheadAttention) -> Iterable[Tensor]:
    if attention.in_proj_weight is not None:
        return attention.in_proj_weight.chunk(3)
    return [getattr(attention, name) for name in _separate()]


def _biases(attention: nn.MultiheadAttention) -> Iterable[Tensor | None]:
    return [None] * 3 if attention.in_proj_bias is None else attention.in_proj_bias.chunk(3)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a linear layer with copies of ``weight`` and ``bias``."""
    rows, columns = weight.shape
    layer = nn.Linear(columns, rows, bias=bias is not None, device=weight.device, dtype=weight.dtype)
    layer.weight.data = weight.detach().clone()
    if bias is not None:
        layer.bias.data = bias.detach().clone()
    return layer


def _added(attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor) -> Tensor | None:
    """Return both masks as one that is added to scores (B, heads, L, S), None if there are none."""
    masks = []
    if attn_mask is not None:
        masks.append(attn_mask.unflatten(0, query.shape[:2]) if attn_mask.dim() == 3 else attn_mask)
    if key_padding_mask is not None:
        masks.append(key_padding_mask[:, None, None])
    numbers = [
        torch.zeros_like(mask, dtype=query.dtype).masked_fill_(mask, -torch.inf) if mask.dtype == torch.bool else mask
        for mask in masks
    ]
    return sum(numbers[1:], numbers[0]) if numbers else None


def _standardized(convolution: nn.Conv2d) -> Tensor:
    """Return the weight that the convolution computes with, as its own forward pass computes it."""
    weight = convolution.weight.detach()
    rows = weight.reshape(1, len(weight), -1)
    return F.batch_norm(rows, None, None, training=True, momentum=0.0, eps=convolution.eps).reshape_as(weight)
