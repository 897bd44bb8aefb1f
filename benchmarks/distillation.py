"""Measure images per second of an epoch on labels, of kd with its teacher, and of kd with the teacher's logits cached.

    python -m benchmarks.distillation [--teacher-width 0.25] [--width 0.25] [--steps 10] [--rounds 5] [--threads 2]
                                      [--clock wall]

Also of two students that share the teacher's forward pass, against a job each. All run in turns in one process, so that
a busy machine disturbs all equally; ratios are of the medians. At width 1 the cost model predicts 1.78 for kd: a step
of the student costs three of its forward passes, and a pass takes 0.555 G multiplications, the teacher's 1.298 G.
"""

import argparse
import os
import statistics
import tempfile
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from kdq.data.batches import TrainingBatches, to_float, view_count
from kdq.data.prepared import Split
from kdq.distill.methods import dkd, kd
from kdq.distill.task import Distillation
from kdq.distill.teacher import CachedTeacher, SharedTeacher, Teacher
from kdq.models.networks import resnet
from kdq.provenance.files import read_tensors, write_tensors
from kdq.train.device import compute_dtype, prepare
from kdq.train.loop import Run
from kdq.train.settings import Training
from kdq.train.task import Classification, Step, Task

CROP = 4


class Together(Task):
    """Several students in one step."""

    def __init__(self, tasks):
        super().__init__(tasks[0].network)
        self.tasks = nn.ModuleList(tasks)

    def forward(self, batch) -> Step:
        steps = [task(batch) for task in self.tasks]
        terms = {f"{name} {index}": term for index, step in enumerate(steps) for name, term in step.terms.items()}
        return Step(terms, steps[0].logits)


def network(architecture, width, device):
    torch.manual_seed(0)
    kind = {"classes": 10, "channels": 3, "stem": "cifar", "mean": [0.5] * 3, "std": [0.25] * 3}
    return resnet.build(architecture, width=width, **kind).to(device, memory_format=torch.channels_last)


def flops(model, images) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(to_float(images))
    return counter.get_total_flops()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher-width", type=float, default=0.25, help="of a ResNet-50")
    parser.add_argument("--width", type=float, default=0.25, help="of the student, a ResNet-18")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: one thread, busy machine")
    arguments = parser.parse_args()
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    device = prepare(arguments.threads)
    count = arguments.steps * arguments.batch_size
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8).to(device)
    labels = torch.randint(0, 10, (count,)).to(device)
    augmented = {"batch_size": arguments.batch_size, "crop": CROP, "flip": True, "cutout": 0, "fill": [0.5] * 3}
    batches = TrainingBatches(images, labels, **augmented)
    settings = Training(epochs=1, batch_size=arguments.batch_size, learning_rate=1e-3)
    parent = network("resnet50", arguments.teacher_width, device)
    teacher = Teacher(parent, device)
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        write_tensors(file.name, {"logits": torch.randn(view_count(CROP, True), count, 10).half()}, {"format": "f"})
        cached = CachedTeacher(parent, device, read_tensors(file.name, "f")[1]["logits"])

    def student():
        return network("resnet18", arguments.width, device)

    def distillation(method, teacher=teacher):
        return Distillation(student(), teacher, method, to_float(images[:2]), labels, 0)

    def both():
        shared = SharedTeacher(parent, device, (), lambda: None)
        return Together([distillation(kd.KD(kd.Parameters()), shared), distillation(dkd.DKD(dkd.Parameters()), shared)])

    tasks = {
        "hard": lambda: Classification(student()),
        "kd": lambda: distillation(kd.KD(kd.Parameters())),
        "kd, cached": lambda: distillation(kd.KD(kd.Parameters()), cached),
        "dkd": lambda: distillation(dkd.DKD(dkd.Parameters())),
        "dkd, cached": lambda: distillation(dkd.DKD(dkd.Parameters()), cached),
        "kd and dkd": both,
    }
    seconds = {name: [] for name in tasks}
    for turn in range(arguments.rounds + 1):
        for name, make in tasks.items():
            run = Run(make(), batches, Split(images[:1], labels[:1]), settings, seed=0)
            started = clock()
            run.train_epoch(1)
            if turn:  # the first round warms up
                seconds[name].append(clock() - started)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    model = 1 + flops(teacher.network, images[:8]) / (3 * flops(student(), images[:8]))
    dtype = compute_dtype("auto", device)
    print(
        f"resnet50 x {arguments.teacher_width} to resnet18 x {arguments.width}, batch {arguments.batch_size}, {dtype}"
    )
    print(f"{arguments.threads} threads, load {os.getloadavg()[0]:.1f}, {arguments.clock} time")
    for name, middle in median.items():
        print(f"{name:12} {count / middle:8.0f} images/s, {middle / median['hard']:.2f} x the time of hard")
    print(f"cost model of kd: {model:.2f}")
    print(f"kd and dkd: two jobs take {(median['kd'] + median['dkd']) / median['kd and dkd']:.2f} x the time of one")


if __name__ == "__main__":
    main()
