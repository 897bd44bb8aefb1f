"""What a method of distillation is: the contract between one file a method and the training loop."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.cached_logits import CachedLogits
from kdq.distill.image_mixing import mixed
from kdq.distill.keys import Distilling
from kdq.train.task import Step, Task


@dataclass(frozen=True)
class Outputs:
    """What a network says of a batch: logits (B, classes) in float32, and the features that the method needs."""

    logits: Tensor
    features: dict[str, Tensor] = field(default_factory=dict)


class Method(nn.Module):
    """A way to distil: a file in ``kdq/distill`` holds one subclass, and a class ``Parameters`` with its keys.

    ``features`` names the taps (``kdq.models.resnet.TAPS``) whose features the method reads of both networks. A
    method is a module: what it registers in ``build`` (an adapter, a regressor) is trained beside the student.
    ``keys`` are the method's own parameters, ``options`` those of every method, ``epochs`` how many a run has.
    With ``teacher_learns`` the teacher is neither frozen nor folded: it is the student's peer, and trained.
    """

    features: tuple[str, ...] = ()
    teacher_learns: bool = False

    def __init__(self, parameters, options: Distilling | None = None, epochs: int = 1):
        super().__init__()
        self.keys = parameters
        self.options = options or Distilling()
        self.epochs = epochs

    def peer(self, parent: nn.Module) -> nn.Module:
        """The teacher that learns, made of the parent model, which itself stays as it is."""
        return copy.deepcopy(parent)

    def start(self, student: nn.Module, log) -> None:
        """Give the fresh student other weights to begin with; ``log`` writes a line."""

    def build(self, student: Outputs, teacher: Outputs, training_labels: Tensor) -> None:
        """Make trainable adapters from the outputs of both networks for two images.

        ``training_labels`` (M,) are those of the whole training part, in the order that ``Batch.indices`` refers to.
        """

    def view(self, batch: Batch, generator: torch.Generator) -> Batch:
        """The batch that both networks see; mixed here, once for both."""
        return mixed(batch, self.options.mixup, generator) if self.options.mixup else batch

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        """Named terms whose sum is minimised; the teacher's outputs carry no gradient, unless it learns."""
        raise NotImplementedError

    def network_losses(self, batch: Batch, student: nn.Module, teacher: nn.Module) -> dict[str, Tensor]:
        """Further terms, for a method that needs the networks themselves and not only what they say."""
        return {}

    def label_loss(self, batch: Batch, student: Outputs) -> Tensor:
        """Cross entropy with the labels, mixed where the images are, smoothed where the options say so: a scalar."""
        smoothing = self.options.label_smoothing
        own = F.cross_entropy(student.logits, batch.labels, label_smoothing=smoothing)
        if batch.partner_labels is None:
            return own
        partner = F.cross_entropy(student.logits, batch.partner_labels, label_smoothing=smoothing)
        return batch.mixing * own + (1 - batch.mixing) * partner


class Distillation(Task):
    """A student learns from a frozen teacher by a method, or beside a peer where the method says that it learns.

    A frozen teacher stays in eval mode and without gradient whatever mode the task is in, so its buffers never change.
    Both networks see the very same tensor; each normalises it in its own way. With ``cached`` the teacher's logits are
    read and not computed.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        method: Method,
        example: Tensor,
        training_labels: Tensor,
        seed: int,
        cached: CachedLogits | None = None,
        teacher_forward: Callable | None = None,
    ):
        super().__init__(student)
        self.method = method
        # in a list it is no submodule: the optimizer, train() and the checkpoint must not reach a frozen teacher
        self._teacher = [teacher.requires_grad_(method.teacher_learns)]
        if method.teacher_learns:
            self.peer = teacher
        # for the one size of batches, not for the example; on a CPU the import alone costs seconds a job
        compiled = example.is_cuda and not method.teacher_learns
        self._teacher_forward = [torch.compile(teacher, dynamic=False) if compiled else teacher]
        if teacher_forward:
            self._teacher_forward = [teacher_forward]
        self._cached = cached
        # apart from the generator of the batches, so that a method with a view sees the same crops as one without
        self._generator = torch.Generator().manual_seed(seed)
        # the statistics of what learns must not see the example, so both look at it in eval mode
        student.eval()
        teacher.eval()
        with torch.no_grad():
            method.build(self._outputs(student, example), self._outputs(teacher, example), training_labels)
        method.to(example.device)
        self.train()

    @property
    def teacher(self) -> nn.Module:
        return self._teacher[0]

    @property
    def networks(self) -> dict[str, nn.Module]:
        return super().networks | ({"peer": self.peer} if self.method.teacher_learns else {})

    @property
    def candidates(self) -> tuple[str, ...]:
        """The peer is one where it is built as the student is: what is saved has the student's architecture."""
        if not self.method.teacher_learns:
            return ("network",)
        alike = getattr(self.peer, "architecture", None) == self.network.architecture
        return ("network", "peer") if alike else ("network",)

    def get_extra_state(self) -> Tensor:
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def _outputs(self, network: nn.Module, images: Tensor) -> Outputs:
        if not self.method.features:
            return Outputs(network(images).float())
        logits, features = network(images, taps=self.method.features)
        return Outputs(logits.float(), features)

    def _teacher_outputs(self, batch: Batch) -> Outputs:
        if self._cached is not None:
            return Outputs(self._cached.of(batch))
        return self._outputs(self._teacher_forward[0], batch.images)

    def forward(self, batch: Batch) -> Step:
        batch = self.method.view(batch, self._generator)
        with torch.set_grad_enabled(self.method.teacher_learns):
            teacher = self._teacher_outputs(batch)
        student = self._outputs(self.network, batch.images)
        terms = self.method.losses(batch, student, teacher)
        return Step(terms | self.method.network_losses(batch, self.network, self.teacher), student.logits)
