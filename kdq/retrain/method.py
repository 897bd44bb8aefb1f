"""What a method of retraining is: the contract between one file a method and the training loop."""

import torch

from kdq.data.prepared import Prepared
from kdq.models.model import Model
from kdq.train.task import Task


class Retraining:
    """A way to train a model further: a file in ``kdq/retrain`` holds one subclass, and a class ``Parameters``.

    The network of its task computes with quantized weights, so that the epoch that is kept is the best one of the
    quantized network. ``keys`` are the method's own parameters, ``epochs`` how many a run has, ``log`` writes a line.
    """

    def __init__(self, parameters, epochs: int = 1, log=print):
        self.keys = parameters
        self.epochs = epochs
        self.log = log

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        """What the training loop trains, from ``parent``, learning from ``teacher``; both are on ``device``.

        Their networks are the task's own, in eval mode. What it learns from and does not train must be no submodule of
        it, nor require a gradient. Random weights are drawn from torch's own generator, which is seeded. Raises
        UserError where the two do not fit the method.
        """
        raise NotImplementedError

    def model(self, task: Task, parent: Model) -> Model:
        """The trained model: its network with the names and shapes of its architecture, and new codes.

        ``task`` is that of :meth:`task` with the chosen epoch's weights. The network's weights of quantized layers are
        not saved, their codes are.
        """
        raise NotImplementedError
