"""The models that are tried: recipes of the study, and what is known of each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from kdq.models.registry import is_own
from kdq.recipe import path

if TYPE_CHECKING:  # it imports torch, and a wrong word is to be refused at once
    from kdq.compress.drops import Drop

ROOT = "teacher"


def recipe_of(quantizer: str, budget: float, architecture: str) -> str:
    """Return the recipe of a candidate: weights of ``budget`` bits in the mean, activations of 8.

    In a library's network BatchNorm is folded, so that a runtime computes convolutions on integers, as it does those of
    this package's own.

    >>> recipe_of("gpfq", 2.5, "resnet18"), recipe_of("gpfq", 2.5, "timm/resnet18")
    ('teacher/gpfq,activations=8,budget=2.5', 'teacher/gpfq,activations=8,batchnorm=fold,budget=2.5')
    """
    batchnorm = "" if is_own(architecture) else "batchnorm=fold,"
    return path.join(ROOT, f"{quantizer},activations=8,{batchnorm}budget={budget:g}")


@dataclass(frozen=True)
class Candidate:
    """A model that was tried: its recipe and budget, the bytes of its model file, its drop on the images to choose on.

    ``within`` says whether the drop is allowed.
    """

    recipe: str
    budget: float
    file_bytes: int
    drop: Drop
    within: bool

    def __str__(self):
        quantizer = path.name_of(path.stages(self.recipe)[-1])
        lost = f"{self.drop.points:+.2f} points ({self.drop.low:.2f} to {self.drop.high:.2f})"
        verdict = "within" if self.within else "too much"
        return f"{self.budget:5g} bits, {quantizer:6} {self.file_bytes:11,} bytes, drop {lost}: {verdict}"

    @property
    def row(self) -> dict:
        """The row of ``candidates.csv``."""
        facts = asdict(self)
        return facts | {f"drop_{key}" if key != "top1" else key: value for key, value in facts.pop("drop").items()}
