"""The contract between a method of retraining, one file per method, and the training loop."""

import torch
from torch import nn

from kdq.data.prepared import Prepared
from kdq.models.model import Model
from kdq.train.task import Task


class Retraining:
    """A method of retraining: each file in ``kdq/retrain/methods`` has one subclass, and its keys ``Parameters``.

    The network of its task computes with quantized weights, so that the epoch that is saved is the best one of the
    quantized network. ``keys`` are the method's parameters, ``epochs`` the length of the run, ``log`` writes a line;
    ``floats`` is the float ancestor's network if the weights to start from are its own.
    """

    def __init__(self, parameters, epochs: int = 1, log=print, floats: nn.Module | None = None):
        self.keys = parameters
        self.epochs = epochs
        self.log = log
        self.floats = floats

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        """Return the task that trains ``parent`` with ``teacher`` as its teacher; both are on ``device``.

        The task may change both networks, which are in eval mode. A teacher that is not trained must be no submodule of
        the task and require no gradient. Random weights are drawn from torch's global generator, which is seeded. Raise
        UserError if the two models do not fit the method.
        """
        raise NotImplementedError

    def model(self, task: Task, parent: Model) -> Model:
        """Return the trained model: its network with the names and shapes of its architecture, and new codes.

        ``task`` is that of :meth:`task` with the selected epoch's weights. Of quantized layers the codes are saved, not
        the network's weights.
        """
        raise NotImplementedError
