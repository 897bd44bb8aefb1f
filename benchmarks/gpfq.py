"""The kernel against the loop that its formula says: seconds, ratio and differing codes, Gram matrices included.

python -m benchmarks.gpfq [--repeat 2] [--shapes 64,576,8192 256,2304,8192 512,4608,8192]
"""

import argparse
import os
import time

import torch

from kdq.quantize.methods.gpfq import gpfq


def sequential(weight, analog, quantized, step, low, high):
    """GPFQ as published: one column after the other, on the residuals of all samples, in float64."""
    codes = torch.zeros_like(weight)
    residual = weight.new_zeros(weight.shape[0], analog.shape[0])
    for t in range(weight.shape[1]):
        residual.addr_(weight[:, t], analog[:, t])
        length = quantized[:, t] @ quantized[:, t]
        if length > 0:
            codes[:, t] = (residual @ quantized[:, t] / length / step + 0.5).floor().clamp(low, high)
        residual.addr_(codes[:, t] * step, quantized[:, t], alpha=-1)
    return codes.to(torch.int16)


def from_gram_matrices(weight, analog, quantized, step, low, high):
    """What the package does, with the time that its Gram matrices take."""
    return gpfq(weight, quantized.mT @ analog, quantized.mT @ quantized, step, low, high)


def timed(function, *arguments):
    """(seconds, processor seconds, result); the second hardly depends on who else computes."""
    start, processor = time.perf_counter(), time.process_time()
    result = function(*arguments)
    return time.perf_counter() - start, time.process_time() - processor, result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=2, help="runs of the fast way, of which the fastest counts")
    parser.add_argument("--shapes", nargs="+", default=["64,576,8192", "256,2304,8192", "512,4608,8192"])
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}; float64, 4 bits")
    columns = "".join(f" {'loop ' + unit:>9} {'gram ' + unit:>9} {'ratio':>7}" for unit in ("s", "CPU"))
    print(f"{'N, d, m':>18}{columns} {'differing codes':>16}")
    for shape in options.shapes:
        rows, inputs, samples = (int(size) for size in shape.split(","))
        generator = torch.Generator().manual_seed(rows)
        # Like activations after ReLU: sparse, non-negative, correlated, and slightly off in the quantized network.
        mixing = torch.randn(inputs, inputs, generator=generator, dtype=torch.float64) / inputs**0.5
        analog = torch.randn(samples, inputs, generator=generator, dtype=torch.float64)
        analog = (analog + analog @ mixing).relu_()
        quantized = (analog + 0.05 * torch.randn(samples, inputs, generator=generator, dtype=torch.float64)).relu_()
        weight = torch.randn(rows, inputs, generator=generator, dtype=torch.float64) / inputs**0.5
        step = weight.abs().amax(1) / 8
        arguments = weight, analog, quantized, step, -8, 7
        runs = [timed(from_gram_matrices, *arguments) for _ in range(options.repeat)]
        *fast, codes = min(runs, key=lambda run: run[0])
        *slow, expected = timed(sequential, *arguments)
        times = [f"{s:9.2f} {f:9.2f} {s / f:7.1f}" for s, f in zip(slow, fast, strict=True)]
        print(f"{shape:>18} {' '.join(times)} {int((codes != expected).sum()):16d}", flush=True)


if __name__ == "__main__":
    main()
