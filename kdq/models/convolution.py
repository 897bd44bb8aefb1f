"""Convolutions that leave out of oneDNN what it computes slowly or wrongly on a CPU."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# within these a product of matrices is quicker, see benchmarks/convolutions.py
FEW_PIXELS, MANY_CHANNELS, CHANNELS_PER_PIXEL = 16, 64, 16


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias and of an odd kernel whose padding keeps the size at stride 1."""
    kind = NarrowShortcut if kernel == 1 < stride and inputs < 16 else Convolution if groups == 1 else nn.Conv2d
    return kind(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False)


class NarrowShortcut(nn.Conv2d):
    """A 1x1 convolution with stride that leaves the pixels between its steps out first: the same numbers.

    With fewer input channels than a vector has numbers (8 with AVX2, 16 with AVX-512) oneDNN 3.12 writes past its
    memory in the gradient of such weights in channels_last (oneDNN issue 6035): crashes, or wrong gradients.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        down, right = self.stride
        return F.conv2d(input[:, :, ::down, ::right], weight, bias)


class Convolution(nn.Conv2d):
    """A convolution that is a product of matrices in bfloat16 on a CPU if its output has few pixels.

    On 4x4 pixels and fewer of many channels oneDNN 3.12 takes up to six times as long. With stride a single pixel is
    read with the centre of the weights: the same numbers, where oneDNN computes bfloat16 gradients of a 3x3 kernel
    from memory that nobody wrote: NaN, 1e32.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        stride, middle = self.stride[0], self.padding[0]
        if input.shape[-2:] == (1, 1) and stride > 1:
            return F.conv2d(input, weight[:, :, middle : middle + 1, middle : middle + 1], bias)
        down, right = ((side - 1) // stride + 1 for side in input.shape[-2:])
        if self._is_slow_on(down * right) and _is_bfloat16_on_cpu(input):
            return _product(input, weight, bias, stride, down, right)
        return super()._conv_forward(input, weight, bias)

    def _is_slow_on(self, pixels: int) -> bool:
        return pixels <= FEW_PIXELS and self.in_channels >= max(MANY_CHANNELS, CHANNELS_PER_PIXEL * pixels)


def _is_bfloat16_on_cpu(input: Tensor) -> bool:
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else input.dtype
    return input.device.type == "cpu" and dtype == torch.bfloat16


def _product(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, down: int, right: int) -> Tensor:
    """Return the convolution, of ``down`` x ``right`` pixels, as a product with the pixels under each kernel."""
    side = weight.shape[-1]
    padded = F.pad(input.to(torch.bfloat16).permute(0, 2, 3, 1), (0, 0, *[side // 2] * 4))
    starts = [(top, left) for top in range(side) for left in range(side)]
    steps = [padded[:, top::stride, left::stride][:, :down, :right] for top, left in starts]
    return F.linear(torch.cat(steps, 3), weight.permute(0, 2, 3, 1).flatten(1), bias).permute(0, 3, 1, 2)
