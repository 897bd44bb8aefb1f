"""What a job asks of a cluster: memory and time, from few measured figures, scaled by images, network and width.

Measured with ``python -m benchmarks.resources`` on two cores of an AMD EPYC, PyTorch 2.14 (figures: that file). A job
that asked for too little is killed, and asks for as much again for every further ``attempt``; one that trains goes on
from its last epoch meanwhile. Planning reads this module for every job: it imports no torch.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kdq.data.catalog import CATALOG, Images
from kdq.models.registry import cost_terms

PYTHON_MB = 1500  # Python with torch, and the two Snakemakes that SLURM's jobs run below
CUDA_MB = 4000  # host memory beside that of a process that uses a GPU; not measured here
START_MINUTES = 10  # a cold disk, a busy file system, the first look at the data
THREAD_GMACS = 25  # giga multiply-adds a second of one thread; small networks and images are the slowest
GPU_GMACS = 1000  # of a GPU of 2018 or later; not measured here, and forty threads is little for one
GPFQ_THREAD_GMACS = 0.8  # of the network on one calibration image, for a second of one thread; rtn needs no less
BACKWARD = 2  # a backward pass costs two forward passes
COPIES_OF_WEIGHTS = 8  # weight, gradient, momentum, average, selected epoch, and a checkpoint on its way to the disk
LIVE_SHARE = 0.25  # of the activations of a forward pass without gradient that are there at a time
ALONE = 7 * 54  # forward passes to measure every layer alone: bit-widths times layers of a ResNet-50
EVALUATED_AT_ONCE = 500  # images, kdq/data/batches.py
CALIBRATED_AT_ONCE = 128  # images whose activations a quantizer holds at a time


IMAGES = {name: entry.images for name, entry in CATALOG.items() if entry.images}


@dataclass(frozen=True)
class Network:
    """A network on one image: giga multiply-adds, activations and parameters in millions."""

    gmacs: float
    activations: float
    parameters: float


FROM_TRANSFORMERS = Network(17.6, 40, 86)  # a ViT-B/16 on 224 x 224 pixels, whatever the data set's are


@dataclass(frozen=True)
class Needs:
    """What a job asks for at its first attempt."""

    memory_mb: int
    minutes: int

    @classmethod
    def of(cls, megabytes: float, seconds: float) -> "Needs":
        return cls(PYTHON_MB + round(megabytes), START_MINUTES + round(seconds / 60))


def network(keys: dict, images: Images) -> Network:
    """Return the cost of the network that the resolved ``keys`` of a root or of a distillation describe."""
    if keys.get("source") == "transformers":
        return FROM_TRANSFORMERS
    factor, terms = cost_terms(keys["architecture"])
    width, pixels = keys["width"] * factor, images.side**2
    macs = activations = parameters = 0.0
    for reference, weight in terms.items():
        law = _costs()[reference][keys["stem"]]
        classifier = images.classes * law["embedding"] * width
        macs += weight * (pixels * _quadratic(law["multiply_adds"], width) + classifier)
        activations += weight * pixels * law["activations"] * width
        parameters += weight * (_quadratic(law["parameters"], width) + classifier)
    return Network(macs / 1e9, activations / 1e6, parameters / 1e6)


def _quadratic(coefficients: list[float], width: float) -> float:
    square, linear = coefficients
    return square * width**2 + linear * width


@cache
def _costs() -> dict:
    """Return the coefficients in ``kdq/models/costs.json``; their formulas are in ``kdq/models/cost.py``."""
    return json.loads(files("kdq.models").joinpath("costs.json").read_text())


def speed(gpu: bool, threads: int) -> float:
    """Giga multiply-adds a second."""
    return GPU_GMACS if gpu else THREAD_GMACS * threads


def preparing(images: Images) -> Needs:
    """To write the data file: a Python list of images, the arrays, the parts."""
    return Needs.of(6 * images.megabytes, 0)


def training(images: Images, keys: dict, student: Network, teacher: Network | None, gpu: bool, threads: int) -> Needs:
    """To train ``student`` for the epochs of ``keys``, beside a teacher that only computes, if there is one."""
    beside = teacher or Network(0, 0, 0)
    gmacs = student.gmacs * (1 + BACKWARD) + beside.gmacs
    activations = max(
        keys["batch_size"] * (student.activations + LIVE_SHARE * beside.activations),
        EVALUATED_AT_ONCE * LIVE_SHARE * student.activations,
    )
    megabytes = 4 * (activations + COPIES_OF_WEIGHTS * student.parameters + 2 * beside.parameters)
    views = 2 * images.megabytes  # the file, and the padded images
    seconds = keys["epochs"] * images.count * gmacs / speed(gpu, threads)
    return Needs.of(megabytes + views + gpu * CUDA_MB, seconds)


def importing(model: Network) -> Needs:
    """To bring a network from outside: its file, its tensors, the network."""
    return Needs.of(3 * 4 * model.parameters, 0)


def caching(images: Images, crop: int, flip: bool, teacher: Network, gpu: bool, threads: int) -> Needs:
    """To compute a teacher's logits, float16, of all crops and flips of all images, and to write them."""
    views = (2 * crop + 1) ** 2 * (1 + flip)
    megabytes = 2 * 2 * views * images.count * images.classes / 1e6 + _inference(images, teacher)
    return Needs.of(megabytes + gpu * CUDA_MB, views * images.count * teacher.gmacs / speed(gpu, threads))


def quantizing(images: Images, calibrated: int, parent: Network, threads: int) -> Needs:
    """To quantize ``parent``, calibrated on so many images."""
    megabytes = 4 * 2 * calibrated * LIVE_SHARE * parent.activations + 8 * 4 * parent.parameters
    return Needs.of(megabytes + 2 * images.megabytes, calibrated * parent.gmacs / (GPFQ_THREAD_GMACS * threads))


def measuring(images: Images, calibrated: int, parent: Network, threads: int) -> Needs:
    """To quantize each layer of ``parent`` alone, at all bit-widths, and to evaluate it each time."""
    quantized = quantizing(images, calibrated, parent, threads)
    seconds = calibrated * parent.gmacs * (7 / (GPFQ_THREAD_GMACS * threads) + ALONE / speed(False, threads))
    return Needs(quantized.memory_mb, START_MINUTES + round(seconds / 60))


def evaluating(images: Images, model: Network, threads: int) -> Needs:
    """To evaluate ``model`` on the validation and the test part."""
    return Needs.of(_inference(images, model), images.count * model.gmacs / speed(False, threads))


def _inference(images: Images, model: Network) -> float:
    """Megabytes of a forward pass over a data set."""
    return 4 * (EVALUATED_AT_ONCE * LIVE_SHARE * model.activations + 2 * model.parameters) + 2 * images.megabytes
