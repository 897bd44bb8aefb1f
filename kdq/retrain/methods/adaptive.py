"""Adaptive bits: while the quantized network is trained with a teacher, its layers' bits follow their sensitivities.

The bits of a layer are those that cost least by its present weights, in the room of the parent's codes: the measure and
the exact choice are the quantizers' own under a budget, made again every few epochs.
"""

import torch
from torch import nn

from kdq.data.batches import Batch
from kdq.data.prepared import Prepared, Split
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.models.codes import QuantizedWeight
from kdq.models.model import Model
from kdq.quantize.execution.selection import select
from kdq.quantize.gram.calibration_images import calibration_images
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, Fraction, Literal, PositiveInt
from kdq.retrain.allocation import in_alphabets, learned_step, reallocate
from kdq.retrain.keys import Kept, Quantized
from kdq.retrain.lsq import LearnedSteps, detach
from kdq.retrain.supervision import SupervisedTraining
from kdq.train.task import Step, Task


class Parameters(Kept, Quantized):
    refuses: ClassVar = {"averaging": "codes of different bits have no average"}

    every: Annotated[PositiveInt, Field(description="epochs from one choice of the bits to the next")] = 2
    adapting: Annotated[
        Fraction, Field(description="share of the epochs, the first, in which bits change; in the rest they stay")
    ] = 0.5
    cost: Annotated[
        Literal["kl", "loss", "accuracy"],
        Field(description="cost of quantizing one layer alone, of its present weights, as in a quantizer"),
    ] = "kl"
    images: Annotated[int, Field(ge=2, le=1_000_000, description="training images on which costs are measured")] = 256

    def inconsistency(self) -> str:
        adapting = self.adapting * self.epochs
        if 0 < adapting < self.every:
            return (
                f"every: found {self.every} beside epochs={self.epochs} and adapting={self.adapting:g}, expected at "
                f"most {adapting:g}, their product, or no bits would ever change"
            )
        return super().inconsistency()


class Adaptive(LearnedSteps):
    """Train as QAT with a teacher does; every few epochs choose the layers' bits again, in the room of the parent's."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        part = calibration_images(prepared, self.keys.images, seed)
        part = Split(part.images.to(device), part.labels)
        layers = self._changing(parent, part)
        last = int(self.keys.adapting * self.epochs)
        return AdaptiveTraining(
            self.attached(parent), Teacher(teacher.network), self.keys, layers, part, last, self.log
        )

    def _changing(self, parent: Model, part: Split) -> dict[str, QuantizedWeight]:
        """Return the codes of the layers whose bits may change: those with an alphabet that ``keep`` does not name."""
        chosen = select(parent.network, part.images, self.keys.keep).layers
        layers = {name: codes for name, codes in parent.codes.items() if name in chosen and "levels" in codes.facts}
        if len(layers) < 2:
            raise UserError(f"adaptive: found {len(layers)} layers whose bits may change, expected at least 2")
        return layers

    def model(self, task: Task, parent: Model) -> Model:
        codes = in_alphabets(task.network, parent.codes)
        return Model(task.network, parent.architecture, detach(task.network, codes))


class AdaptiveTraining(SupervisedTraining):
    """Supervised training; bits are chosen before the first batch of every epoch ``every`` + 1, ... up to ``last``."""

    def __init__(self, network: nn.Module, teacher: Teacher, keys, layers, part: Split, last: int, log):
        super().__init__(network, teacher, keys)
        self.layers, self.part, self.last, self.log = layers, part, last, log
        self.epoch = 0  # a resumed run begins its next epoch as the uninterrupted one did

    def forward(self, batch: Batch) -> Step:
        if batch.epoch != self.epoch:
            self.epoch = batch.epoch
            if self.is_due(batch.epoch):
                self._reallocate(batch.images.device.type)
        return super().forward(batch)

    def is_due(self, epoch: int) -> bool:
        """Return whether the bits are chosen again before this epoch, the first being 1."""
        done = epoch - 1
        return 0 < done <= self.last and done % self.keys.every == 0

    def _reallocate(self, device_type: str) -> None:
        steps = [learned_step(self.network, name) for name in self.layers]
        before = [step.high for step in steps]
        with torch.autocast(device_type, enabled=False):
            bits = reallocate(self.network, self.layers, self.part, self.keys.cost)
        changed = [name for name, step, high in zip(self.layers, steps, before, strict=True) if step.high != high]
        lines = ", ".join(f"{name} {bits[name]}" for name in changed)
        self.log(f"epoch {self.epoch}: {len(changed)} of {len(steps)} layers get other bits{': ' * bool(lines)}{lines}")
