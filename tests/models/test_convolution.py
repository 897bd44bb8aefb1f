"""Convolutions that avoid what oneDNN computes slowly or wrongly: the same numbers as torch's."""

import pytest
import torch
import torch.nn.functional as F

from kdq.models.convolution import Convolution, NarrowShortcut, convolution


def images(layer, count: int, side: int, other: int | None = None) -> torch.Tensor:
    shape = (count, layer.in_channels, side, other or side)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)


def in_channels_last(*arguments) -> torch.nn.Conv2d:
    torch.manual_seed(0)
    return convolution(*arguments).to(memory_format=torch.channels_last)


def gradients(compute, *arguments):
    """Return the output of ``compute(inputs, weight)`` and its gradients with respect to both."""
    arguments = [value.detach().requires_grad_() for value in arguments]
    output = compute(*arguments)
    slope = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
    return output.detach(), *torch.autograd.grad(output, arguments, slope.to(output))


class TestFewPixels:
    @pytest.mark.parametrize("channels", [(256, 96), (256, 300)])
    @pytest.mark.parametrize("kernel", [1, 3])
    @pytest.mark.parametrize(("stride", "sides"), [(1, (4, 4)), (1, (1, 1)), (1, (2, 3)), (2, (7, 8)), (2, (2, 1))])
    def test_outputs_and_gradients_in_bfloat16_are_those_in_double_precision(self, channels, kernel, stride, sides):
        layer = in_channels_last(*channels, kernel, stride)
        inputs = images(layer, 16, *sides)

        def in_bfloat16(inputs, weight):
            with torch.autocast("cpu", torch.bfloat16):
                output = layer._conv_forward(inputs, weight, None)
            assert output.dtype == torch.bfloat16 and output.is_contiguous(memory_format=torch.channels_last)
            return output

        def exactly(inputs, weight):
            return F.conv2d(inputs, weight, None, stride, kernel // 2)

        expected = gradients(exactly, inputs.double(), layer.weight.double())
        found = gradients(in_bfloat16, inputs, layer.weight)
        for value, right in zip(found, expected, strict=True):
            assert value.shape == right.shape
            assert (value.double() - right).abs().max() < 0.015 * right.abs().max()

    def test_in_float32_the_bits_are_those_of_torch(self):
        layer = in_channels_last(64, 64, 3)
        inputs = images(layer, 8, 4)
        assert torch.equal(layer(inputs), F.conv2d(inputs, layer.weight, padding=1))

    def test_a_folded_batchnorm_is_its_bias(self):
        layer = in_channels_last(256, 8, 3)
        layer.bias = torch.nn.Parameter(torch.arange(8.0))
        inputs = images(layer, 4, 2)
        with torch.autocast("cpu", torch.bfloat16):
            found = layer(inputs).float()
        torch.testing.assert_close(found, F.conv2d(inputs, layer.weight, layer.bias, padding=1), rtol=0.02, atol=0.02)

    @pytest.mark.parametrize(
        ("channels", "side", "stride", "is_product"),
        [
            *[(256, 4, 1, True), (255, 4, 1, False), (512, 5, 1, False), (256, 8, 2, True), (256, 9, 2, False)],
            *[(64, 2, 1, True), (64, 1, 1, True), (32, 1, 1, False)],
        ],
    )
    def test_it_is_a_product_of_matrices_where_that_is_quicker(self, channels, side, stride, is_product, monkeypatch):
        calls = []
        monkeypatch.setattr("kdq.models.convolution._product", lambda *arguments: calls.append(arguments))
        layer = in_channels_last(channels, 8, 3, stride)
        layer(images(layer, 2, side))
        assert not calls
        with torch.autocast("cpu", torch.bfloat16):
            layer(images(layer, 2, side))
        assert bool(calls) == is_product

    def test_a_convolution_in_groups_is_torchs(self):
        assert type(convolution(64, 64, 3, groups=64)) is torch.nn.Conv2d


class TestNarrowShortcuts:
    """oneDNN writes past its memory in the gradient of 1x1 convolutions with stride and few channels, channels last."""

    @pytest.mark.parametrize("channels", [2, 4, 8, 16])
    def test_gradients_in_channels_last_are_those_in_double_precision(self, channels):
        shortcut = in_channels_last(channels, 2 * channels, 1, 2)
        inputs = images(shortcut, 32, 32)
        exact = torch.zeros_like(shortcut.weight, dtype=torch.double, requires_grad=True)
        F.conv2d(inputs.double(), exact, stride=2).sin().sum().backward()
        torch.nn.init.zeros_(shortcut.weight)
        for _ in range(30):  # memory written to is not always seen at once
            shortcut.zero_grad()
            shortcut(inputs).sin().sum().backward()
            torch.testing.assert_close(shortcut.weight.grad.double(), exact.grad, rtol=1e-4, atol=0.05)

    def test_they_are_convolutions_of_the_same_numbers(self):
        shortcut = in_channels_last(4, 8, 1, 2)
        assert isinstance(shortcut, NarrowShortcut)
        inputs = images(shortcut, 2, 9, 8)
        torch.testing.assert_close(shortcut(inputs), F.conv2d(inputs, shortcut.weight, stride=2))


class TestSinglePixels:
    """oneDNN's bfloat16 gradient of a 3x3 convolution with stride on a single pixel is not even finite."""

    @pytest.mark.parametrize("channels", [16, 128, 256])
    def test_gradients_in_bfloat16_are_those_of_the_centre(self, channels):
        layer = in_channels_last(channels, channels, 3, 2)
        assert isinstance(layer, Convolution)
        inputs = images(layer, 64, 1)
        for _ in range(10):
            layer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                layer(inputs).float().sum().backward()
            expected = torch.zeros_like(layer.weight)
            expected[:, :, 1, 1] = inputs.flatten(1).sum(0)
            torch.testing.assert_close(layer.weight.grad, expected, rtol=0.05, atol=0.5)

    def test_outputs_are_the_same(self):
        layer = in_channels_last(64, 128, 3, 2)
        inputs = images(layer, 3, 1)
        torch.testing.assert_close(layer(inputs), F.conv2d(inputs, layer.weight, stride=2, padding=1))
