"""The task of a student and its teacher, which the training loop trains in a stage of distillation."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.method import Method
from kdq.distill.outputs import Outputs
from kdq.distill.teacher import Peer, Teacher
from kdq.models.masks import masks_of
from kdq.train.task import Step, Task


class Distillation(Task):
    """Train a student from a teacher by a method: from a frozen :class:`Teacher`, or together with a :class:`Peer`.

    A frozen teacher stays in eval mode and without gradient whatever mode the task is in, so its buffers never change.
    Both networks see the same tensor and normalise it themselves. ``example`` (2, C, H, W) are images to build the
    method's adapters from, ``labels`` (M,) those of the training part.
    """

    def __init__(
        self, student: nn.Module, teacher: Teacher | Peer, method: Method, example: Tensor, labels: Tensor, seed: int
    ):
        super().__init__(student)
        self.method = method
        self.teacher = teacher
        self.student_taps, self.teacher_taps = method.taps(student, teacher.network)
        # separate from the generator of the batches: a method with a view sees the same crops as one without
        self._generator = torch.Generator().manual_seed(seed)
        # in eval mode: the example must not enter the statistics of a network that is trained
        student.eval()
        teacher.network.eval()
        with torch.no_grad():
            sides = (student, self.student_taps), (teacher.network, self.teacher_taps)
            method.build(*(Outputs.of(network, example, taps) for network, taps in sides), labels)
        method.to(example.device)
        self.train()

    @property
    def networks(self) -> dict[str, nn.Module]:
        return super().networks | ({"peer": self.teacher.network} if self.method.teacher_learns else {})

    @property
    def candidates(self) -> tuple[str, ...]:
        """The networks that may be saved: the peer too if it has the student's architecture, and no masks."""
        peer = self.teacher.network
        alike = getattr(peer, "architecture", None) == self.network.architecture and not masks_of(peer)
        return ("network", "peer") if self.method.teacher_learns and alike else ("network",)

    @property
    def period(self) -> int:
        return self.method.period

    def alone(self) -> AbstractContextManager:
        return nullcontext() if self.method.teacher_learns else self.teacher.alone()

    def get_extra_state(self) -> Tensor:
        return self._generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self._generator.set_state(state)

    def forward(self, batch: Batch) -> Step:
        batch = self.method.view(batch, self._generator)
        teacher = self.teacher.outputs(batch, self.teacher_taps)
        student = Outputs.of(self.network, batch.images, self.student_taps)
        terms = self.method.losses(batch, student, teacher)
        return Step(terms | self.method.network_losses(batch, self.network, self.teacher.network), student.logits)
