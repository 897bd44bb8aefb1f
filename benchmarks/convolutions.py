"""Measure convolutions on few pixels as products of matrices against oneDNN's, in bfloat16: layers and networks.

    python -m benchmarks.convolutions [--batch-size 128] [--repeat 6] [--threads 1]

Seconds are those of a forward pass and both gradients; the two take turns, the ratio is of the shortest.
"""

import argparse
import time

import torch

from kdq.models import convolution, registry
from kdq.train.device import prepare

LAYERS = [  # input and output channels, kernel, stride, side of the input
    (512, 512, 3, 1, 2),
    (512, 512, 3, 1, 4),
    (256, 512, 3, 2, 8),
    (256, 256, 3, 1, 4),
    (128, 128, 3, 1, 2),
    (64, 64, 3, 1, 2),
    (2048, 512, 1, 1, 2),
    (2048, 512, 1, 1, 4),
    (128, 512, 1, 1, 2),
    (64, 64, 3, 1, 4),  # from here on as oneDNN computes it
    (128, 128, 3, 1, 4),
    (256, 256, 3, 1, 8),
]
NETWORKS = [(name, side) for name in ("resnet18", "resnet50", "vgg16_bn") for side in (16, 24, 32)]


def seconds(network, images, limits: tuple[int, int, int]) -> float:
    """Return the seconds of a step within the ``limits`` of products of matrices."""
    convolution.FEW_PIXELS, convolution.MANY_CHANNELS, convolution.CHANNELS_PER_PIXEL = limits
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images)
    output.float().sum().backward()
    return time.perf_counter() - started


def compare(name: str, network, images, repeat: int, limits: tuple[int, int, int]) -> None:
    """Print the milliseconds of a step without and with products of matrices."""
    network = network.to(memory_format=torch.channels_last)
    images = images.to(torch.bfloat16, memory_format=torch.channels_last).requires_grad_()
    pairs = [[seconds(network, images, chosen) for chosen in ((0, 0, 0), limits)] for _ in range(repeat + 1)]
    before, after = (min(times) for times in zip(*pairs[1:], strict=True))
    print(f"{name:36} {1000 * before:9.1f} {1000 * after:9.1f} {before / after:6.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    prepare(arguments.threads)
    limits = convolution.FEW_PIXELS, convolution.MANY_CHANNELS, convolution.CHANNELS_PER_PIXEL
    print(f"{'':36} {'oneDNN, ms':>9} {'product':>9} {'ratio':>6}")
    for inputs, outputs, kernel, stride, side in LAYERS:
        name = f"{inputs} to {outputs}, {kernel}x{kernel}, stride {stride}, {side}x{side}"
        images = torch.randn(arguments.batch_size, inputs, side, side)
        compare(
            name, convolution.convolution(inputs, outputs, kernel, stride), images, arguments.repeat, (side**2, 0, 0)
        )
    sizes = {"classes": 10, "channels": 3, "stem": "cifar", "width": 1, "mean": [0.5] * 3, "std": [0.25] * 3}
    for name, side in NETWORKS:
        images = torch.rand(arguments.batch_size, 3, side, side)
        compare(f"{name}, {side}x{side}", registry.build(name, **sizes), images, arguments.repeat, limits)


if __name__ == "__main__":
    main()
