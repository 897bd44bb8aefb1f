"""A model in memory: what a stage makes and what the model file keeps."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from kdq.models.activations import Point
from kdq.models.codes import QuantizedWeight


@dataclass(frozen=True)
class Model:
    """A network, the arguments that build it, its codes per quantized layer and its training history.

    ``codes`` is empty for a float network, ``points`` if its activations are float; ``history`` has one dict per epoch
    and is empty unless trained here.
    """

    network: nn.Module
    architecture: dict
    codes: dict[str, QuantizedWeight] = field(default_factory=dict)
    points: Sequence[Point] = ()
    history: list[dict] = field(default_factory=list)

    @property
    def content(self) -> tuple:
        """The arguments of :func:`kdq.models.file.save` that come after the path."""
        return self.network, self.architecture, self.codes, self.points
