"""Memory, minutes and GPUs that a job requests of a cluster, from few measured figures, scaled by images and network.

Measured with ``python -m benchmarks.resources`` on two cores of an AMD EPYC, PyTorch 2.14 (figures: that file). A job
that asked for too little is killed, and asks for as much again for every further ``attempt``; a training continues
from its last epoch meanwhile. Planning reads this module for every job: it imports no torch.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kdq.data.data_sets import Images
from kdq.models.libraries import library_name
from kdq.models.registry import cost_terms
from kdq.recipe.path import join
from kdq.workflow.planning import Plan
from kdq.workflow.settings import or_stop

PYTHON_MB = 1500  # Python with torch, and the two Snakemakes that SLURM's jobs run below
CUDA_MB = 4000  # host memory beside that of a process that uses a GPU; not measured here
START_MINUTES = 10  # a cold disk, a busy file system, the first look at the data
THREAD_GMACS = 25  # giga multiply-adds per second of one thread; small networks and images are the slowest
GPU_GMACS = 1000  # of a GPU of 2018 or later; not measured here, and forty threads is little for a GPU
GPFQ_THREAD_GMACS = 0.8  # of the network on one calibration image, per second of one thread; rtn needs no less
BACKWARD = 2  # a backward pass costs two forward passes
COPIES_OF_WEIGHTS = 8  # weight, gradient, momentum, average, selected epoch, and a checkpoint on its way to the disk
LIVE_SHARE = 0.25  # of a forward pass's activations, those that exist at a time without gradient
LAYERS = 54  # of a ResNet-50
ALONE = 7 * LAYERS  # forward passes to measure every layer alone, at each bit-width
COST_IMAGES = 1000  # kdq/quantize/gram/calibration_images.py
EVALUATED_AT_ONCE = 500  # images, kdq/data/batches.py
TIMED_AT_ONCE, TIMED_ROUNDS = 128, 15  # images, and most rounds, kdq/deploy/timing.py

# the method of `Estimates` that estimates a rule's jobs; those of other rules take seconds
RULES = {rule: rule for rule in ("root", "distill", "retrain", "teacher_cache", "quantize", "sensitivity", "latency")}
RULES |= {"prepare_data": "data", **dict.fromkeys(("evaluate", "evaluate_root", "export", "model_folder"), "evaluate")}


@dataclass(frozen=True)
class Network:
    """A network on one image: giga multiply-adds, activations and parameters in millions."""

    gmacs: float
    activations: float
    parameters: float


FROM_TRANSFORMERS = Network(17.6, 40, 86)  # a ViT-B/16 on 224 x 224 pixels, whatever the data set's are; or unknown


@dataclass(frozen=True)
class Needs:
    """What a job requests at its first attempt, and its work."""

    memory_mb: int
    seconds: float  # of work, on the slowest machine that is foreseen

    @classmethod
    def of(cls, megabytes: float, seconds: float) -> "Needs":
        return cls(PYTHON_MB + round(megabytes), seconds)

    @property
    def minutes(self) -> int:
        return START_MINUTES + round(self.seconds / 60)


def network(keys: dict, images: Images) -> Network:
    """Return the cost of the network that the resolved ``keys`` of a root or of a distillation describe."""
    if "architecture" not in keys:  # only its file tells
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
    return json.loads(files("kdq.models").joinpath("costs.json").read_text(encoding="utf-8"))


def speed(gpu: bool, threads: int) -> float:
    """Return giga multiply-adds per second."""
    return GPU_GMACS if gpu else THREAD_GMACS * threads


def preparing(images: Images) -> Needs:
    """Return the needs of writing the data file: a Python list of images, the arrays, the parts."""
    return Needs.of(6 * images.megabytes, 0)


def training(images: Images, keys: dict, student: Network, teacher: Network | None, gpu: bool, threads: int) -> Needs:
    """Return the needs of training ``student`` for the epochs of ``keys``, with a teacher's forward passes if given."""
    beside = teacher or Network(0, 0, 0)
    gmacs = student.gmacs * (1 + BACKWARD) + beside.gmacs
    activations = max(
        keys.get("batch_size", 0) * (student.activations + LIVE_SHARE * beside.activations),
        EVALUATED_AT_ONCE * LIVE_SHARE * student.activations,
    )
    megabytes = 4 * (activations + COPIES_OF_WEIGHTS * student.parameters + 2 * beside.parameters)
    views = 2 * images.megabytes  # the file, and the padded images
    seconds = keys["epochs"] * images.count * gmacs / speed(gpu, threads)
    return Needs.of(megabytes + views + gpu * CUDA_MB, seconds)


def importing(model: Network) -> Needs:
    """Return the needs of importing a network: its file, its tensors, the network."""
    return Needs.of(3 * 4 * model.parameters, 0)


def caching(images: Images, crop: int, flip: bool, teacher: Network, gpu: bool, threads: int) -> Needs:
    """Return the needs of a teacher's logits, float16, for all crops and flips of all images: computed and written."""
    views = (2 * crop + 1) ** 2 * (1 + flip)
    megabytes = 2 * 2 * views * images.count * images.classes / 1e6 + _inference(images, teacher)
    return Needs.of(megabytes + gpu * CUDA_MB, views * images.count * teacher.gmacs / speed(gpu, threads))


def quantizing(images: Images, calibrated: int, parent: Network, threads: int) -> Needs:
    """Return the needs of quantizing ``parent``, calibrated on so many images."""
    megabytes = 4 * 2 * calibrated * LIVE_SHARE * parent.activations + 8 * 4 * parent.parameters
    return Needs.of(megabytes + 2 * images.megabytes, calibrated * parent.gmacs / (GPFQ_THREAD_GMACS * threads))


def measuring(images: Images, calibrated: int, parent: Network, threads: int) -> Needs:
    """Return the needs of quantizing each layer of ``parent`` alone, at all bit-widths, each time evaluated."""
    quantized = quantizing(images, calibrated, parent, threads)
    seconds = 7 * calibrated * parent.gmacs / (GPFQ_THREAD_GMACS * threads)
    seconds += ALONE * COST_IMAGES * parent.gmacs / speed(False, threads)
    return Needs(quantized.memory_mb, seconds)


def ordering(images: Images, calibrated: int, parent: Network, threads: int) -> Needs:
    """Return the needs of quantizing the layers of ``parent`` by impact: all that remain, after every layer."""
    quantized = quantizing(images, calibrated, parent, threads)
    seconds = LAYERS / 2 * calibrated * parent.gmacs / (GPFQ_THREAD_GMACS * threads)
    seconds += LAYERS**2 / 2 * COST_IMAGES * parent.gmacs / speed(False, threads)
    return Needs(quantized.memory_mb, seconds)


def evaluating(images: Images, model: Network, threads: int) -> Needs:
    """Return the needs of evaluating ``model`` on the validation and the test part."""
    return Needs.of(_inference(images, model), images.count * model.gmacs / speed(False, threads))


def timing(model: Network, root: Network) -> Needs:
    """Return the needs of running ``model``, its float network and its root, each in turn in every runtime.

    At most three runtimes with two precisions hold these networks and the activations of a large batch.
    """
    networks = (model, model, root)
    megabytes = 2 * 4 * sum(TIMED_AT_ONCE * LIVE_SHARE * each.activations + 2 * each.parameters for each in networks)
    images = 3 * 2 * TIMED_ROUNDS * TIMED_AT_ONCE
    return Needs.of(megabytes, images * sum(each.gmacs for each in networks) / speed(False, 1))


def _inference(images: Images, model: Network) -> float:
    """Return the megabytes of a forward pass over a data set."""
    return 4 * (EVALUATED_AT_ONCE * LIVE_SHARE * model.activations + 2 * model.parameters) + 2 * images.megabytes


class Estimates:
    """Requests of a plan's jobs: ``memory`` and ``minutes`` return functions for the rules' ``resources``.

    Both take the name of a method below, and give as much again for every further attempt.
    """

    def __init__(self, plan: Plan):
        self.plan, self.threads = plan, plan.study.config.threads
        self.images, self.network = cache(self.images), cache(self.network)

    def memory(self, job: str) -> Callable:
        return lambda wildcards, attempt: attempt * getattr(self, job)(wildcards).memory_mb

    def minutes(self, job: str) -> Callable:
        return lambda wildcards, attempt: attempt * getattr(self, job)(wildcards).minutes

    def seconds(self, rule: str, wildcards) -> float:
        """Return the work of a rule's job in seconds, 0 for a rule without an estimate here."""
        return getattr(self, RULES[rule])(wildcards).seconds if rule in RULES else 0.0

    def gpus(self, rule: str) -> int:
        """Return the GPUs of a training: 0 on a cluster without any, and the time limits follow."""
        return 0 if self.plan.settings.has_no_gpu(rule) else 1

    def images(self, dataset: str) -> Images:
        return self.plan.images(dataset)

    def network(self, dataset: str, recipe: str) -> Network:
        """Return the cost of the network that a recipe ends with."""
        keys, images = self.plan.keys(self.plan.recipe(recipe).maker.text), self.images(dataset)
        if not library_name(keys.get("architecture", "")):
            return network(keys, images)
        (counts,) = or_stop(self.plan.networks.costs, [(keys, images)])
        if not counts:
            return FROM_TRANSFORMERS
        return Network(counts["multiply_adds"] / 1e9, counts["activations"] / 1e6, counts["parameters"] / 1e6)

    def data(self, wildcards) -> Needs:
        return preparing(self.images(wildcards.dataset))

    def root(self, wildcards) -> Needs:
        keys, model = self.plan.keys(wildcards.stage), self.network(wildcards.dataset, wildcards.stage)
        if keys.get("source", "train") != "train":
            return importing(model)
        return training(self.images(wildcards.dataset), keys, model, None, bool(self.gpus("root")), self.threads)

    def distill(self, wildcards) -> Needs:
        return self._training("distill", wildcards, wildcards.parent)

    def retrain(self, wildcards) -> Needs:
        grammar, stage = self.plan.study.grammar, self.plan.stage(wildcards.stage)
        return self._training(
            "retrain", wildcards, or_stop(grammar.teacher, self.plan.recipe(wildcards.parent), stage).path
        )

    def _training(self, rule: str, wildcards, teacher: str) -> Needs:
        dataset, keys = wildcards.dataset, self.plan.keys(wildcards.stage)
        networks = [self.network(dataset, recipe) for recipe in (join(wildcards.parent, wildcards.stage), teacher)]
        return training(self.images(dataset), keys, *networks, bool(self.gpus(rule)), self.threads)

    def teacher_cache(self, wildcards) -> Needs:
        dataset, gpu = wildcards.dataset, bool(self.gpus("teacher_cache"))
        teacher, crop, flip = self.network(dataset, wildcards.parent), int(wildcards.crop), wildcards.flip == "true"
        return caching(self.images(dataset), crop, flip, teacher, gpu, self.threads)

    def quantize(self, wildcards) -> Needs:
        iterative = self.plan.keys(wildcards.stage)["order"] == "iterative"
        return (ordering if iterative else quantizing)(*self._calibrated(wildcards))

    def sensitivity(self, wildcards) -> Needs:
        return measuring(*self._calibrated(wildcards))

    def _calibrated(self, wildcards) -> tuple:
        dataset, calibrated = wildcards.dataset, self.plan.keys(wildcards.stage)["images"]
        return self.images(dataset), calibrated, self.network(dataset, wildcards.parent), self.threads

    def evaluate(self, wildcards) -> Needs:
        recipe = join(getattr(wildcards, "parent", ""), getattr(wildcards, "stage", ""))
        return evaluating(self.images(wildcards.dataset), self.network(wildcards.dataset, recipe), self.threads)

    def latency(self, wildcards) -> Needs:
        recipes = (wildcards.parent, self.plan.recipe(wildcards.parent).root.path)
        return timing(*(self.network(wildcards.dataset, recipe) for recipe in recipes))
