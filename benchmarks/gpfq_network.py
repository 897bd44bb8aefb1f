"""A whole ResNet-18 at CIFAR size: the one forward pass against the published procedure, in one run.

    python -m benchmarks.gpfq_network [--images 128] [--repeat 1] [--width 1.0] [--bits 4]

The published procedure, written anew from its description: per layer two partial forward passes, patches on a grid of
the kernel's stride, a quarter of them drawn with replacement, and a sequential float32 loop over columns. On a
busy machine compare processor seconds with OMP_NUM_THREADS=1: they hardly depend on who else computes.
"""

import argparse
import copy
import os
import resource
import threading
import time

import torch
from torch import nn
from torch.nn import functional

from kdq.models.networks import resnet
from kdq.quantize.execution.network import quantize
from kdq.quantize.methods.gpfq import GPFQ
from kdq.quantize.methods.gpfq import Parameters as GPFQKeys
from kdq.quantize.methods.rtn import RTN
from kdq.quantize.methods.rtn import Parameters as RTNKeys


class Reached(Exception):
    """The layer of interest has got its input: the rest of the forward pass is not needed."""


def input_of(model, layer, batch):
    """A partial forward pass, up to ``layer``."""
    caught = []

    def catch(module, arguments):
        caught.append(arguments[0])
        raise Reached

    with layer.register_forward_pre_hook(catch):
        try:
            model(batch)
        except Reached:
            return caught[0]


def published_patches(layer, inputs, chosen):
    """(m, d) patches of a grid of the kernel's stride; ``chosen`` (M, patches an image), drawn anew where None."""
    if isinstance(layer, nn.Linear):
        return inputs, None
    columns = functional.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.kernel_size).mT
    samples, positions, _ = columns.shape
    if chosen is None:
        chosen = torch.randint(positions, (samples, int(0.25 * positions + 1)))
    return columns[torch.arange(samples)[:, None], chosen].flatten(0, 1), chosen


def published_loop(weight, analog, quantized, step, max_code):
    """Columns one after the other on the residuals of all patches, float32."""
    result = torch.zeros_like(weight)
    residual = weight.new_zeros(weight.shape[0], analog.shape[0])
    for t in range(weight.shape[1]):
        residual += torch.outer(weight[:, t], analog[:, t])
        length = torch.linalg.norm(quantized[:, t]) ** 2
        z = residual @ (quantized[:, t] / length) if length > 0 else torch.zeros_like(step.expand(len(weight)))
        result[:, t] = z.sign() * step * (z / step + 0.5).floor().abs().clamp(max=max_code)
        residual -= torch.outer(result[:, t], quantized[:, t])
    return result


def published(model, images, bits, factor):
    """Quantize a copy of ``model`` layer by layer and return it."""
    batch, result, max_code = images.float() / 255, copy.deepcopy(model), 2 ** (bits - 1)
    for layer, twin in zip(model.modules(), result.modules(), strict=True):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            analog, chosen = published_patches(layer, input_of(model, layer, batch), None)
            quantized, _ = published_patches(twin, input_of(result, twin, batch), chosen)
            weight = layer.weight.flatten(1)
            step = factor * weight.abs().amax(1).mean() / max_code
            twin.weight.data = published_loop(weight, analog, quantized, step, max_code).view_as(layer.weight)
    return result


class PeakMemory:
    """Largest resident size in GiB within the block, looked at every 20 ms."""

    def __enter__(self):
        self.peak, self.running = 0.0, True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while self.running:
            with open("/proc/self/statm", encoding="ascii") as file:
                self.peak = max(self.peak, int(file.read().split()[1]) * resource.getpagesize() / 2**30)
            time.sleep(0.02)

    def __exit__(self, *error):
        self.running = False
        self.thread.join()


def measured(function, repeat):
    """(seconds, processor seconds, peak GiB) of the fastest of ``repeat`` runs."""
    runs = []
    for _ in range(repeat):
        with PeakMemory() as memory, torch.no_grad():
            start, processor = time.perf_counter(), time.process_time()
            function()
            runs.append((time.perf_counter() - start, time.process_time() - processor, memory))
    seconds, processor, memory = min(runs, key=lambda run: run[0])
    return seconds, processor, memory.peak


def network(architecture="resnet18", width=1.0):
    """A network at CIFAR size with the weights that training starts from."""
    torch.manual_seed(0)
    arguments = {"classes": 10, "channels": 3, "stem": "cifar", "mean": [0.5] * 3, "std": [0.25] * 3}
    return resnet.build(architecture, width=width, **arguments).eval()


def pictures(count, size=32):
    """Smooth pictures, uint8, so that neighbouring patches are as alike as in photographs."""
    images = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (functional.interpolate(images, size=size, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def silent(line):
    """A log that nobody reads."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--bits", type=int, default=4)
    options = parser.parse_args()
    model, images = network(width=options.width), pictures(options.images)
    fixed = {"scale": 1.16, "granularity": "layer"}
    settings = {
        "gpfq, patches paper, C = 1.16 a layer": (GPFQ, GPFQKeys, {"patches": "paper", **fixed}),
        "gpfq, patches all, C = 1.16 a layer": (GPFQ, GPFQKeys, {"patches": "all", **fixed}),
        "gpfq, patches paper, search a channel": (GPFQ, GPFQKeys, {"patches": "paper"}),
        "gpfq, patches all, search a channel": (GPFQ, GPFQKeys, {"patches": "all"}),
        "rtn, patches all, search a channel": (RTN, RTNKeys, {"patches": "all"}),
    }
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; {options.images} images")
    print(f"{'':40} {'seconds':>8} {'ratio':>6} {'CPU s':>7} {'ratio':>6} {'peak GiB':>9} {'load':>5}")
    baseline = None
    runs = {"published procedure": lambda: published(model, images, options.bits, 1.16)}
    for name, (method, keys_type, keys) in settings.items():
        quantizer = method(keys_type(bits=options.bits, **keys))
        runs[name] = lambda quantizer=quantizer: quantize(copy.deepcopy(model), images, quantizer, log=silent)
    for name, function in runs.items():
        seconds, processor, peak = measured(function, options.repeat)
        baseline = baseline or (seconds, processor)
        print(
            f"{name:40} {seconds:8.1f} {baseline[0] / seconds:6.1f} {processor:7.1f} {baseline[1] / processor:6.1f}"
            f" {peak:9.2f} {os.getloadavg()[0]:5.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
