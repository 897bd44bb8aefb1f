"""Measure memory and speed of jobs of several sizes, and compare with the estimates of kdq/workflow/resources.py.

    python -m benchmarks.resources [--jobs train quantize evaluate] [--networks resnet18 resnet50] [--widths 0.25 0.5 1]

Random 32 x 32 images; each job is a separate process with one thread and a few steps. Speed is measured in CPU seconds,
so other load on the machine hardly matters.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from dataclasses import asdict

BATCH, STEPS, CALIBRATED, EVALUATED = 128, 3, 256, 500


def prepared():
    import torch

    from kdq.data.prepared import Prepared, Split

    def part(count):
        return Split(torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8), torch.randint(0, 10, (count,)))

    names = [str(label) for label in range(10)]
    parts = {"train": part(STEPS * BATCH), "validation": part(BATCH), "test": part(EVALUATED)}
    return Prepared(**parts, classes=names, mean=[0.5] * 3, std=[0.2] * 3, dataset="cifar10", source={}, split_seed=0)


def train(architecture: str, width: float) -> float:
    """Train one epoch. Return the number of forward passes of an image; a backward pass counts as two."""
    from kdq.train.settings import Network, Training
    from kdq.train.stage import train_root

    changes = {"architecture": architecture, "width": width, "epochs": 1, "batch_size": BATCH, "label_smoothing": 0.0}
    keys = {**Network().model_dump(), **Training().model_dump(), **changes}
    with tempfile.TemporaryDirectory() as folder:
        places = {"checkpoint": f"{folder}/checkpoint.pt", "identity": "", "log": lambda line: None}
        train_root(prepared(), keys, seed=0, threads=1, **places)
    return 3 * STEPS * BATCH + BATCH


def network(architecture: str, width: float):
    from kdq.models import registry

    arguments = {"classes": 10, "channels": 3, "stem": "cifar", "mean": [0.5] * 3, "std": [0.2] * 3}
    return registry.build(architecture, width=width, **arguments).eval()


def quantize(architecture: str, width: float) -> float:
    import torch

    from kdq.quantize.methods import gpfq
    from kdq.quantize.stage import quantize_stage
    from kdq.train.device import prepare

    keys, device = gpfq.Parameters(images=CALIBRATED), prepare(1)
    images, model = prepared(), network(architecture, width)
    quantize_stage(model, images, gpfq.GPFQ(keys), seed=0, device=torch.device(device), log=lambda line: None)
    return CALIBRATED


def evaluate(architecture: str, width: float) -> float:
    from kdq.evaluate.stage import predict
    from kdq.train.device import prepare

    device = prepare(1)
    predict(network(architecture, width), prepared().test.images, device)
    return EVALUATED


def measure(job: str, architecture: str, width: float, results) -> None:
    """Put CPU seconds without imports, images, and peak MiB on the queue ``results``."""
    import torch  # noqa: F401

    network(architecture, width)
    started = time.process_time()
    images = {"train": train, "quantize": quantize, "evaluate": evaluate}[job](architecture, width)
    seconds = time.process_time() - started
    results.put((seconds, images, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def estimate(job: str, keys: dict) -> dict:
    """Return what kdq/workflow/resources.py requests for the job, at the size of this measurement."""
    from kdq.workflow import resources

    images = resources.Images(STEPS * BATCH + BATCH + EVALUATED, 32, 3, 10)
    model = resources.network(keys, images)
    if job == "train":
        needs = resources.training(images, {"epochs": 1, "batch_size": BATCH}, model, None, gpu=False, threads=1)
    elif job == "quantize":
        needs = resources.quantizing(images, CALIBRATED, model, threads=1)
    else:
        needs = resources.evaluating(images, model, threads=1)
    return {"gmacs": model.gmacs, **asdict(needs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", nargs="*", default=["train", "quantize", "evaluate"])
    parser.add_argument("--networks", nargs="*", default=["resnet18", "resnet50"])
    parser.add_argument("--widths", nargs="*", type=float, default=[0.25, 0.5, 1])
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print("job       network   width  GMAC/s per thread  peak MiB  requested MB")
    for job in options.jobs:
        for architecture in options.networks:
            for width in options.widths:
                results = context.Queue()
                process = context.Process(target=measure, args=(job, architecture, width, results))
                process.start()
                seconds, images, peak = results.get()
                process.join()
                requested = estimate(job, {"architecture": architecture, "width": width, "stem": "cifar"})
                speed = requested["gmacs"] * images / seconds
                print(
                    f"{job:9} {architecture:9} {width:5} {speed:18.1f} {peak:9.0f} {requested['memory_mb']:13}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
