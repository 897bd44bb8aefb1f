"""The contract between a method of distillation, one file per method, and the task that trains a student by it."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.image_mixing import mixed
from kdq.distill.keys import Distilling
from kdq.distill.outputs import Outputs

Taps = tuple[str, ...]


class Method(nn.Module):
    """A method of distillation: each file in ``kdq/distill/methods`` has one subclass, and its keys ``Parameters``.

    ``features`` names the taps whose features the method reads from both networks; if they depend on the networks,
    override :meth:`taps`. What the method registers in :meth:`build` (an adapter, a regressor) is trained together with
    the student. ``keys`` are the method's own parameters, ``options`` those of every method, ``epochs`` the length of
    the run. With ``teacher_learns`` the teacher is the student's peer: not frozen but trained too. ``period`` is the
    number of steps after which what a step computes repeats.
    """

    features: Taps = ()
    teacher_learns: bool = False
    period: int = 1

    def __init__(self, parameters, options: Distilling | None = None, epochs: int = 1):
        super().__init__()
        self.keys = parameters
        self.options = options or Distilling()
        self.epochs = epochs

    def peer(self, parent: nn.Module) -> nn.Module:
        """Return the teacher that is trained, made from the parent model, which stays as it is."""
        return copy.deepcopy(parent)

    def start(self, student: nn.Module, log) -> None:
        """Replace the initial weights of the fresh ``student``, if the method does so; ``log`` writes a line."""

    def taps(self, student: nn.Module, teacher: nn.Module) -> tuple[Taps, Taps]:
        """Return the taps of the student and of the teacher whose features the method reads.

        Raise UserError if the two networks lack a stage that the method needs.
        """
        return self.features, self.features

    def build(self, student: Outputs, teacher: Outputs, training_labels: Tensor) -> None:
        """Make the trainable adapters from both networks' outputs for two images.

        ``training_labels`` (M,) are those of the whole training part, in the order that ``Batch.indices`` refers to.
        """

    def view(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the batch that both networks see; images are mixed here, once for both."""
        return mixed(batch, self.options.mixup, generator) if self.options.mixup else batch

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        """Return named scalar terms to minimise the sum of; the teacher's outputs have gradients only if it learns."""
        raise NotImplementedError

    def network_losses(self, batch: Batch, student: nn.Module, teacher: nn.Module) -> dict[str, Tensor]:
        """Return further terms, for a method that needs the networks themselves in addition to their outputs."""
        return {}

    def growth(self, epoch: int) -> float:
        """Return the factor of the match with the teacher in ``epoch``, for a method with the keys ``Warmup``."""
        warmup_epochs = self.keys.warmup * self.epochs
        return min(epoch / warmup_epochs, 1.0) if warmup_epochs else 1.0

    def label_loss(self, batch: Batch, student: Outputs) -> Tensor:
        """Cross entropy with the labels, a scalar: mixed if the images are, smoothed if the options ask for it."""
        smoothing = self.options.label_smoothing
        loss = F.cross_entropy(student.logits, batch.labels, label_smoothing=smoothing)
        if batch.partner_labels is None:
            return loss
        partner_loss = F.cross_entropy(student.logits, batch.partner_labels, label_smoothing=smoothing)
        return batch.mixing * loss + (1 - batch.mixing) * partner_loss
