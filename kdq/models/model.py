"""A model in memory: what a stage makes and what the model file keeps."""

from dataclasses import dataclass, field

from torch import nn

from kdq.models.codes import Codes


@dataclass(frozen=True)
class Model:
    """A network, the arguments that build it, its codes per quantized layer and its training history.

    ``codes`` is empty for a float network; ``history`` has one dict per epoch and is empty unless trained here.
    """

    network: nn.Module
    architecture: dict
    codes: Codes = field(default_factory=Codes)
    history: list[dict] = field(default_factory=list)
