"""The kinds of stage, one frozen description each. All other code asks for capabilities, never for names."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of stage: its place in the code, its inputs, and what its models are.

    ``package`` holds the kind's stages in its sub-folder ``methods`` and their common keys in its module ``keys``.
    ``script`` makes a stage's model, in the ``rule``, by default that named as the kind. ``inputs`` are the roles of
    that rule's input files, see ``INPUTS`` in ``kdq.study.products``. ``role`` is the part of a config that sets
    defaults for these stages: ``network`` (``teacher`` for the stage of that name, ``student`` for all others),
    ``retrain``, or none. ``learns_from`` is the source of a training: the labels, the parent model, or a float
    ancestor.
    """

    name: str
    package: str
    script: str
    inputs: tuple[str, ...]
    makes_network: bool = False  # a float network of its own; the other kinds change their parent's
    trains: bool = False
    prunes: bool = False
    quantizes: bool = False  # turns float weights into codes
    gives_codes: bool = False  # its models have quantized layers
    keeps_codes: bool = False  # its models have quantized layers if their parents have
    needs_codes: bool = False  # its parent must have some, unless the stage's keys set `float_parent`
    learns_from: str = ""
    role: str = ""
    rule: str = ""

    @property
    def has_parent(self) -> bool:
        return "parent" in self.inputs

    @property
    def folder(self) -> str:
        """The folder of the stages' files, relative to the one that holds the package ``kdq``."""
        return f"{self.package.replace('.', '/')}/methods"


NETWORK = {"makes_network": True, "trains": True, "role": "network"}
ROOT = Kind("root", "kdq.roots", "scripts/train_root.py", ("data",), learns_from="labels", **NETWORK)
DISTILL = Kind(
    "distill", "kdq.distill", "scripts/distill.py", ("data", "parent", "views"), learns_from="parent", **NETWORK
)
QUANTIZED = {"quantizes": True, "gives_codes": True}
QUANTIZE = Kind("quantize", "kdq.quantize", "scripts/quantize.py", ("data", "parent", "sensitivity"), **QUANTIZED)
RETRAINED = {"trains": True, "gives_codes": True, "needs_codes": True, "role": "retrain"}
LEARNED_FROM = ("data", "parent", "teacher", "ancestor")
RETRAIN = Kind("retrain", "kdq.retrain", "scripts/retrain.py", LEARNED_FROM, learns_from="ancestor", **RETRAINED)
CONTINUED = {"trains": True, "keeps_codes": True, "learns_from": "ancestor", "role": "retrain", "rule": RETRAIN.name}
TUNE = Kind("tune", "kdq.tune", RETRAIN.script, LEARNED_FROM, **CONTINUED)
PRUNE = Kind("prune", "kdq.prune", RETRAIN.script, LEARNED_FROM, prunes=True, **CONTINUED)
KINDS = {kind.name: kind for kind in (ROOT, DISTILL, QUANTIZE, RETRAIN, TUNE, PRUNE)}


def stages_to_float(kinds: Iterable[Kind]) -> int:
    """Return how many stages of a recipe, given the kind of each, lead to the last model without quantized layers.

    >>> stages_to_float([ROOT, PRUNE, QUANTIZE, PRUNE])
    2
    """
    length, has_codes = 0, False
    for index, kind in enumerate(kinds, 1):
        has_codes = kind.gives_codes or (kind.keeps_codes and has_codes)
        length = length if has_codes else index
    return length
