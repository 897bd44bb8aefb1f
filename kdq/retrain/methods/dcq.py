"""DCQ: the sections of a quantized network are trained separately to reproduce the float network's features.

Source: Elthakeb et al., Divide and Conquer: Leveraging Intermediate Feature Representations for Quantized Training of
Neural Networks, ICML 2020, arXiv:1906.06033. Added here are the learned steps, the error of a section relative to the
size of its target, so that one learning rate suits all sections, and the losses of the last section.
"""

import torch
from torch import Tensor, nn

from kdq.data.batches import Batch
from kdq.data.prepared import Prepared
from kdq.distill.teacher import frozen
from kdq.errors import UserError
from kdq.models.channels import KEY as SHRUNK
from kdq.models.model import Model
from kdq.models.network import Network
from kdq.quantize.execution.batchnorm import reestimate
from kdq.recipe.vocabulary import Annotated, ClassVar, Field, Fraction, Literal, PositiveInt
from kdq.retrain.keys import Quantized
from kdq.retrain.lsq import LearnedSteps, LearnedStepsTask
from kdq.retrain.sections import sections
from kdq.retrain.supervision import supervision
from kdq.train.task import Step, Task


class Parameters(Quantized):
    of_match: ClassVar = ("temperature",)
    sections: Annotated[
        int, Field(ge=1, le=1000, description="parts that are trained separately, of equally many blocks")
    ] = 4
    inputs: Annotated[
        Literal["teacher", "student"],
        Field(description="inputs of a section: the float network's features, or those of the sections before it"),
    ] = "teacher"
    joint: Annotated[
        Fraction, Field(description="share of the epochs, the last, in which all sections are trained as one network")
    ] = 0.0
    images: Annotated[
        PositiveInt,
        Field(
            description="training images from which `inputs=teacher` estimates BatchNorm after stitching: the last of "
            "the epoch, cropped and mirrored as it saw them"
        ),
    ] = 256

    @classmethod
    def reads(cls, keys: dict) -> str:
        return "sections"

    @classmethod
    def misfit(cls, keys: dict, networks: dict) -> str:
        parent, teacher = networks["parent"], networks["teacher"]
        if parent.blocks and keys["sections"] > parent.blocks:
            return f"sections: found {keys['sections']}, expected 1 to {parent.blocks}, the blocks of the network"
        for key, expected in parent.description.items():
            if teacher.description[key] != expected:
                return (
                    f"teacher: found one of {key} {teacher.description[key]}, expected the parent's, {expected}; "
                    "teacher=float is of its architecture"
                )
        if parent.reshaped != teacher.reshaped:
            made = "/".join(parent.reshaped or teacher.reshaped)
            return f"teacher: found one of other channels than the parent's ({made}); teacher=float has the parent's"
        return ""


class DCQ(LearnedSteps):
    """Train sections against the teacher's features, the last one against labels and logits, then stitch them."""

    def task(self, parent: Model, teacher: Model, prepared: Prepared, *, seed: int, device: torch.device) -> Task:
        check_alike(parent, teacher)
        return SectionalTraining(self.attached(parent), teacher.network, self.keys, self.epochs)


def check_alike(parent: Model, teacher: Model) -> None:
    """Raise UserError unless both are networks of one architecture, so that their sections correspond."""
    for role, model in (("parent", parent), ("teacher", teacher)):
        if not isinstance(model.network, Network):
            name = model.architecture["architecture"]
            raise UserError(f"dcq: the {role} is a network of {name} without sections; expected one of this package")
    for key in {**parent.architecture, **teacher.architecture}:
        found, expected = (model.architecture.get(key) for model in (teacher, parent))
        if found != expected and key == SHRUNK:
            raise UserError(
                "dcq: teacher: found other channels than the parent's, as those of one of them were pruned; "
                "teacher=float has the parent's"
            )
        if found != expected:
            raise UserError(
                f"dcq: teacher: found one of {key} {found}, expected the parent's, {expected}; "
                "teacher=float is of its architecture"
            )


class SectionalTraining(LearnedStepsTask):
    """Terms are ``section_1``, ... for all sections but the last, 0 in the epochs of joint training."""

    def __init__(self, network: nn.Module, teacher: Network, keys: Parameters, epochs: int):
        super().__init__(network)
        self.keys = keys
        self.sectional_epochs = epochs - round(keys.joint * epochs)
        self.epoch, self.seen = 0, torch.empty(0)
        # functions of a frozen copy, which is no submodule
        self._teacher_sections = sections(frozen(teacher), keys.sections)

    def before_validation(self, networks: dict[str, nn.Module]) -> None:
        """First estimate the BatchNorm statistics of stitched sections, trained on the teacher's features."""
        if self.epoch <= self.sectional_epochs and self.keys.inputs == "teacher" and self.keys.sections > 1:
            for network in networks.values():
                reestimate(network.eval(), self.seen)
        super().before_validation(networks)

    @torch.no_grad()
    def _teacher_outputs(self, images: Tensor) -> list[Tensor]:
        """Return the outputs of the teacher's sections; the last are its logits."""
        outputs = [images]
        for section in self._teacher_sections:
            outputs.append(section(outputs[-1]))
        return outputs[1:]

    def forward(self, batch: Batch) -> Step:
        # of this epoch alone, however short: a resumed run has not seen the epochs before
        seen = [self.seen] if batch.epoch == self.epoch else []
        self.epoch, self.seen = batch.epoch, torch.cat([*seen, batch.images])[-self.keys.images :]
        alone = batch.epoch <= self.sectional_epochs
        *features, teacher_logits = self._teacher_outputs(batch.images)
        terms, x = {}, batch.images
        for number, section in enumerate(sections(self.network, self.keys.sections), 1):
            x = section(x)
            if number <= len(features):
                target = features[number - 1]
                terms[f"section_{number}"] = relative_error(x, target) if alone else x.new_zeros((), dtype=torch.float)
                if alone:
                    x = target if self.keys.inputs == "teacher" else x.detach()
        logits = x.float()
        return Step(terms | supervision(self.keys, logits, batch.labels, lambda: teacher_logits.float()), logits)


def relative_error(output: Tensor, target: Tensor) -> Tensor:
    """Return ||output - target||^2 / ||target||^2 over the whole batch: a scalar in float32, 0 at equality."""
    output, target = output.float(), target.float()
    return (output - target).square().sum() / target.square().sum().clamp_min(torch.finfo(torch.float).tiny)
