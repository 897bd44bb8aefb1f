"""The contract of a method that prunes weights, one file per method: which weights are left."""

import torch
from torch import Tensor, nn

from kdq.data.prepared import Prepared
from kdq.distill.teacher import Teacher
from kdq.models import masks
from kdq.models.model import Model
from kdq.quantize.execution.selection import select
from kdq.quantize.gram.calibration_images import calibration_images
from kdq.retrain.lsq import LearnedSteps
from kdq.retrain.supervision import SupervisedTraining

IMAGES = 2  # that show which layers run


class Pruner(LearnedSteps):
    """A method of pruning: each file in ``kdq/prune/methods`` has one subclass, and its keys ``Parameters``.

    Layers that may be pruned are those that a quantizer would quantize.
    """

    def masks(self, weights: dict[str, Tensor], left: dict[str, Tensor], share: float) -> dict[str, Tensor]:
        """Return masks of layers: bool of their weights' shapes, False where a weight is pruned.

        ``weights`` are float, by the layers' names; ``left`` the masks that they have, full ones included: what is
        pruned there stays so, whatever the new ones say, and in layers without a new one. ``share`` says how much of
        what the keys ask for is pruned by now: 1 at last.
        """
        raise NotImplementedError

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device):
        images = calibration_images(prepared, IMAGES, seed).images.to(device)
        selection = select(parent.network, images, self.keys.keep)
        for name, reason in selection.reasons.items():
            self.log(f"{name}: is not pruned, {reason}")
        gradual = getattr(self.keys, "gradual", 0) * self.epochs
        network = self.attached(parent)
        task = PrunedTraining(network, Teacher(teacher.network), self, list(selection.layers), max(1, round(gradual)))
        if not self.epochs:
            task.prune(1)
        return task

    def model(self, task, parent: Model) -> Model:
        left = masks.shares_left(masks.masks_of(task.network)).values()
        self.log(
            f"{len(left)} layers pruned"
            + (f", {min(left):.2%} to {max(left):.2%} of their weights left" if left else "")
        )
        return super().model(task, parent)


class PrunedTraining(SupervisedTraining):
    """Prune ``layers`` before each of the first ``rounds`` epochs; the last of these or a later one is saved."""

    def __init__(self, network: nn.Module, teacher: Teacher, pruner: Pruner, layers: list[str], rounds: int):
        super().__init__(network, teacher, pruner.keys)
        self.pruner, self.layers, self.rounds, self.pruned = pruner, layers, rounds, 0

    @property
    def candidates(self) -> tuple[str, ...]:
        return ("network",) if self.pruned == self.rounds else ()

    def before_epoch(self, epoch: int) -> None:
        if epoch <= self.rounds:
            self.prune(epoch / self.rounds)
            self.pruned = epoch

    @torch.no_grad()
    def prune(self, time: float) -> None:
        """Prune 1 - (1 - ``time``)^3 of what is asked for (Zhu and Gupta, To prune, or not to prune, 2017)."""
        weights = {name: masks.weight_of(self.network.get_submodule(name)).detach() for name in self.layers}
        left = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
        left |= {name: mask for name, mask in masks.masks_of(self.network).items() if name in left}
        chosen = self.pruner.masks(weights, left, 1 - (1 - time) ** 3)
        masks.attach(self.network, {name: mask & left[name] for name, mask in chosen.items()})

    def get_extra_state(self) -> dict:
        return {"pruned": self.pruned, "masks": masks.masks_of(self.network)}

    def set_extra_state(self, state: dict) -> None:
        self.pruned = state["pruned"]
        masks.attach(self.network, state["masks"])


def lowest(scores: Tensor, count: int) -> Tensor:
    """Return the mask (M,) of all but the ``count`` lowest scores (M,); of equal ones the first are pruned."""
    mask = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    mask[scores.argsort(stable=True)[:count]] = False
    return mask
