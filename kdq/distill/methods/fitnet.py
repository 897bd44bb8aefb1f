"""FitNets: a layer of the student predicts the features of a layer of the teacher, its hint.

Source: Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015, arXiv:1412.6550.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.distill.divergence import kl
from kdq.distill.method import Method, Outputs, Taps
from kdq.distill.stages import stages_of
from kdq.errors import UserError, nearest
from kdq.recipe.vocabulary import Annotated, Base, Field, Literal, NonNegative, PositiveInt, Temperature


class Parameters(Base):
    stages: Annotated[
        Literal["one", "two"],
        Field(description="`one`: labels and hint at once, as in benchmarks; `two`: the hint first, as in the paper"),
    ] = "one"
    hint: Annotated[
        str, Field(description="the stage whose features are matched, of a name that both networks have")
    ] = "layer2"
    hint_weight: Annotated[
        NonNegative, Field(description="one stage: weight of the mean squared error of the features")
    ] = 100.0
    hint_epochs: Annotated[
        PositiveInt, Field(description="two stages: epochs on the hint alone; the rest is knowledge distillation")
    ] = 5
    temperature: Annotated[
        Temperature, Field(description="two stages: softens both predictions: softmax(logits / temperature)")
    ] = 3.0
    first_weight: Annotated[
        NonNegative, Field(description="two stages: weight of the match with the teacher after the hint")
    ] = 4.0
    last_weight: Annotated[
        NonNegative, Field(description="two stages: that weight in the last epoch; it changes linearly")
    ] = 1.0

    def inconsistency(self) -> str:
        if self.stages == "two" and self.hint_epochs >= self.epochs:
            return f"hint_epochs: found {self.hint_epochs}, expected fewer than the {self.epochs} epochs of the run"
        return ""

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "feature maps"

    @classmethod
    def misfit(cls, keys: dict, networks: dict) -> str:
        stages = [facts.stages for facts in networks.values()]
        shared = [name for name in stages[0] if all(name in names for names in stages)]
        if keys["hint"] in shared or not all(stages):
            return ""
        return f"hint: found {keys['hint']!r}, expected a stage of both networks: {', '.join(shared)}"


def hint(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Return the mean squared error of the regressor's outputs and the teacher's features, both (B, C, H, W).

    A scalar, 0 at equality. Times C / 2 it is the paper's loss (equation 3): half the squared distance of the C
    features at a position, averaged over images and positions.
    """
    wide = torch.promote_types(student_features.dtype, torch.float32)
    return F.mse_loss(student_features.to(wide), teacher_features.to(wide))


def regressor(student_shape, teacher_shape) -> nn.Sequential:
    """Return convolution, BatchNorm and ReLU that map features of ``student_shape`` (B, C, H, W) to ``teacher_shape``.

    A student's side s is mapped to a teacher's side t by a convolution of stride 2 if s = 2 t, by a transposed one if
    2 s = t, else by one of kernel 1 + s - t. Raise UserError if s is smaller than t otherwise.
    """
    inputs, outputs = student_shape[1], teacher_shape[1]
    student, teacher = tuple(student_shape[2:]), tuple(teacher_shape[2:])
    sides = list(zip(student, teacher, strict=True))
    if all(s == 2 * t for s, t in sides):
        convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    elif all(2 * s == t for s, t in sides):
        convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
    elif all(s >= t for s, t in sides):
        convolution = nn.Conv2d(inputs, outputs, tuple(1 + s - t for s, t in sides), bias=False)
    else:
        found, wanted = ("x".join(map(str, size)) for size in (student, teacher))
        raise UserError(
            f"fitnet: hint: found features of {found} in the student and {wanted} in the teacher, "
            "expected the student's as large, larger, or half as large; give both the same stem"
        )
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class FitNet(Method):
    """One stage: CE + hint_weight MSE. Two stages: the hint alone, then CE + weight KL at a temperature.

    In the first of two stages no layer after the hint's has a gradient, so neither the loss nor weight decay changes
    it. Both stages are one run with one schedule of the learning rate. KL has the gradient of the paper's cross
    entropy with soft labels and, as there, no factor temperature^2.
    """

    def taps(self, student: nn.Module, teacher: nn.Module) -> tuple[Taps, Taps]:
        shared = [stage for stage in stages_of(student) if stage in stages_of(teacher)]
        if self.keys.hint not in shared:
            hint = nearest(self.keys.hint, shared)
            raise UserError(
                f"fitnet: hint: found {self.keys.hint!r}, expected a stage of both networks: {', '.join(shared)}{hint}"
            )
        return (self.keys.hint,), (self.keys.hint,)

    def build(self, student: Outputs, teacher: Outputs, training_labels: Tensor) -> None:
        self.regressor = regressor(*(side.features[self.keys.hint].shape for side in (student, teacher)))

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        keys = self.keys
        if keys.stages == "one":
            match = keys.hint_weight * self._hint(student, teacher)
            return {"cross_entropy": self.label_loss(batch, student), "hint": match}
        none = student.logits.new_zeros(())  # the history needs the same terms in every epoch
        if batch.epoch <= keys.hint_epochs:
            channels = teacher.features[keys.hint].shape[1]
            return {"cross_entropy": none, "distillation": none, "hint": channels / 2 * self._hint(student, teacher)}
        match = kl(student.logits, teacher.logits, keys.temperature).mean()
        return {
            "cross_entropy": self.label_loss(batch, student),
            "distillation": self.distillation_weight(batch.epoch) * match,
            "hint": none,
        }

    def _hint(self, student: Outputs, teacher: Outputs) -> Tensor:
        return hint(self.regressor(student.features[self.keys.hint]), teacher.features[self.keys.hint])

    def distillation_weight(self, epoch: int) -> float:
        """Return the weight of the match in the second stage: linear from its first epoch to the last of the run."""
        keys = self.keys
        first, last = keys.hint_epochs + 1, self.epochs
        passed = (epoch - first) / (last - first) if last > first else 0.0
        return keys.first_weight + passed * (keys.last_weight - keys.first_weight)
