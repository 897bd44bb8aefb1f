"""What the training loop trains: the contract, and its plainest case, labels alone."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch


@dataclass(frozen=True)
class Step:
    """A task's result for a batch: named scalar terms whose sum is minimised, and logits (B, classes) in float32."""

    terms: dict[str, Tensor]
    logits: Tensor


class Task(nn.Module):
    """A network and its objective; every parameter of the task is trained, only one network is saved.

    ``candidates`` names those of ``networks`` that may be saved after this epoch, all of one architecture: the best on
    validation is saved, the first on a tie; after the last epoch there are some. Weights that are pruned stay 0.
    """

    candidates: tuple[str, ...] = ("network",)
    period: int = 1  # steps after which the operations of a step repeat

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks that are validated, by name: ``network``, and any that is trained along with it."""
        return {"network": self.network}

    def before_epoch(self, epoch: int) -> None:
        """Prepare the network for an epoch, the first being 1: it may prune layers."""

    def before_validation(self, networks: dict[str, nn.Module]) -> None:
        """Prepare ``networks`` after an epoch: they are evaluated next, and one may be saved."""

    def alone(self) -> AbstractContextManager:
        """Return a context in which the task shares no computation with others: its operations are counted there."""
        return nullcontext()

    def forward(self, batch: Batch) -> Step:
        raise NotImplementedError


class Classification(Task):
    """Cross entropy with the labels, smoothed: (1 - e) on the label plus e / C on every class (torch's convention)."""

    def __init__(self, network: nn.Module, label_smoothing: float = 0.0):
        super().__init__(network)
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> Step:
        logits = self.network(batch.images).float()
        loss = F.cross_entropy(logits, batch.labels, label_smoothing=self.label_smoothing)
        return Step({"cross_entropy": loss}, logits)
