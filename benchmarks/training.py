"""Measure images per second of the training loop, with augmentation and bookkeeping, against a bare step.

    python -m benchmarks.training [--architecture resnet18] [--width 0.25] [--steps 40] [--threads 2]

Both run in turns in one process, so that a busy machine disturbs both equally; the ratio is of the medians.
"""

import argparse
import os
import statistics
import time

import torch

from kdq.data.batches import TrainingBatches, to_float
from kdq.data.prepared import Split
from kdq.models import registry
from kdq.train.device import autocast, compute_dtype, prepare
from kdq.train.loop import Run
from kdq.train.settings import Training
from kdq.train.task import Classification


def network(arguments):
    torch.manual_seed(0)
    return registry.build(
        arguments.architecture,
        classes=10,
        channels=3,
        stem="cifar",
        width=arguments.width,
        mean=[0.5] * 3,
        std=[0.25] * 3,
    ).to(memory_format=torch.channels_last)


def bare_seconds(arguments, images, labels, dtype, device) -> float:
    """Return the seconds that forward, backward and update take, always with the same batch."""
    model = network(arguments).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batch, target = to_float(images[: arguments.batch_size]), labels[: arguments.batch_size]
    started = time.perf_counter()
    for _ in range(arguments.steps):
        with autocast(dtype, device):
            loss = torch.nn.functional.cross_entropy(model(batch).float(), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return time.perf_counter() - started


def loop_seconds(arguments, images, labels, device) -> float:
    """Return the seconds that as many steps of the project's training loop take, from its own measurement."""
    settings = Training(epochs=1, batch_size=arguments.batch_size, learning_rate=1e-3)
    batches = TrainingBatches(
        images, labels, batch_size=arguments.batch_size, crop=4, flip=True, cutout=0, fill=[0.5] * 3
    )
    run = Run(Classification(network(arguments)), batches, Split(images[:1], labels[:1]), settings, seed=0)
    row = run.train_epoch(1)
    return arguments.steps * arguments.batch_size / row["images_per_second"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="resnet18")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    device = prepare(arguments.threads)
    dtype = compute_dtype("auto", device)
    count = arguments.steps * arguments.batch_size
    images, labels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (count,))
    bare, loop = [], []
    for _ in range(arguments.rounds):
        bare.append(bare_seconds(arguments, images, labels, dtype, device))
        loop.append(loop_seconds(arguments, images, labels, device))
    per_second = [count / statistics.median(seconds) for seconds in (bare, loop)]
    print(f"{arguments.architecture}, width {arguments.width}, batch {arguments.batch_size}, {dtype}")
    print(f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
    print(f"bare step      {per_second[0]:8.0f} images/s")
    print(f"training loop  {per_second[1]:8.0f} images/s, {per_second[1] / per_second[0]:.1%} of the bare step")


if __name__ == "__main__":
    main()
