"""Memory, minutes and GPUs of the rules' jobs, from kdq/workflow/resources.py for the network of each recipe."""

from collections.abc import Callable
from functools import cache

from kdq.data.folder_digest import counts
from kdq.recipe import path
from kdq.workflow import resources
from kdq.workflow.planning import Plan
from kdq.workflow.resources import Images, Needs, Network
from kdq.workflow.settings import or_stop


class Estimates:
    """What the jobs of a plan need; ``memory`` and ``minutes`` give functions for the rules' ``resources``."""

    def __init__(self, plan: Plan):
        self.plan, self.threads = plan, plan.study.config.threads
        for name in ("images", "network", "training", "retraining", "quantizing", "evaluating"):
            setattr(self, name, cache(getattr(self, name)))

    def gpus(self, rule: str) -> int:
        """Return the GPUs of a training: 0 on a cluster without any, and the time limits follow."""
        return 0 if self.plan.settings.has_no_gpu(rule) else 1

    def memory(self, rule: str) -> Callable:
        """Return a function for ``mem_mb``: as much again for every further attempt."""
        needs_of = getattr(self, f"needs_of_{rule}")
        return lambda wildcards, attempt: attempt * needs_of(wildcards).memory_mb

    def minutes(self, rule: str) -> Callable:
        """Return a function for ``runtime``: as much again for every further attempt."""
        needs_of = getattr(self, f"needs_of_{rule}")
        return lambda wildcards, attempt: attempt * needs_of(wildcards).minutes

    def images(self, dataset: str) -> Images:
        if dataset != "folder":
            return resources.IMAGES[dataset]
        data = self.plan.study.config.data
        images, classes = or_stop(counts, {"image_folder": data.image_folder})
        return Images(images, data.image_size, 3, classes)

    def network(self, dataset: str, recipe: str) -> Network:
        """Return the cost of the network that a recipe ends with."""
        stage = [stage for stage in path.stages(recipe) if self.plan.stage(stage).kind.makes_network][-1]
        return resources.network(self.plan.keys(stage), self.images(dataset))

    def needs_of_data(self, wildcards) -> Needs:
        return resources.preparing(self.images(wildcards.dataset))

    def needs_of_root(self, wildcards) -> Needs:
        return self.training("root", wildcards.dataset, "", wildcards.stage)

    def needs_of_distill(self, wildcards) -> Needs:
        return self.training("distill", wildcards.dataset, wildcards.parent, wildcards.stage)

    def training(self, rule: str, dataset: str, parent: str, stage: str) -> Needs:
        keys, images = self.plan.keys(stage), self.images(dataset)
        if keys.get("source", "train") != "train":
            return resources.importing(resources.network(keys, images))
        student = self.network(dataset, path.join(parent, stage))
        teacher = self.network(dataset, parent) if parent else None
        return resources.training(images, keys, student, teacher, bool(self.gpus(rule)), self.threads)

    def needs_of_retrain(self, wildcards) -> Needs:
        return self.retraining(wildcards.dataset, wildcards.parent, wildcards.stage)

    def retraining(self, dataset: str, parent: str, stage: str) -> Needs:
        teacher = or_stop(self.plan.study.grammar.teacher, self.plan.recipe(parent), self.plan.stage(stage)).path
        networks, gpu = [self.network(dataset, recipe) for recipe in (parent, teacher)], bool(self.gpus("retrain"))
        return resources.training(self.images(dataset), self.plan.keys(stage), *networks, gpu, self.threads)

    def needs_of_teacher_cache(self, wildcards) -> Needs:
        dataset, gpu = wildcards.dataset, bool(self.gpus("teacher_cache"))
        teacher, crop, flip = self.network(dataset, wildcards.parent), int(wildcards.crop), wildcards.flip == "true"
        return resources.caching(self.images(dataset), crop, flip, teacher, gpu, self.threads)

    def needs_of_quantize(self, wildcards) -> Needs:
        return self.quantizing(resources.quantizing, wildcards.dataset, wildcards.parent, wildcards.stage)

    def needs_of_sensitivity(self, wildcards) -> Needs:
        return self.quantizing(resources.measuring, wildcards.dataset, wildcards.parent, wildcards.stage)

    def quantizing(self, work: Callable, dataset: str, parent: str, stage: str) -> Needs:
        calibrated, network = self.plan.keys(stage)["images"], self.network(dataset, parent)
        return work(self.images(dataset), calibrated, network, self.threads)

    def needs_of_evaluate(self, wildcards) -> Needs:
        makes_network = self.plan.stage(wildcards.stage).kind.makes_network
        return self.evaluating(wildcards.dataset, wildcards.stage if makes_network else wildcards.parent)

    def evaluating(self, dataset: str, recipe: str) -> Needs:
        return resources.evaluating(self.images(dataset), self.network(dataset, recipe), self.threads)
