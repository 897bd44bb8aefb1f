"""The kinds of stage, one frozen description each; all other code asks for capabilities, never for names."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """A kind of stage.

    ``package`` holds the kind's stages in its sub-folder ``methods``, and the keys that all of them share in its module
    ``keys``. ``script`` makes a stage's model. ``role`` is the part of a config that sets defaults for these stages:
    ``network`` (``teacher`` for the stage of that name, ``student`` for others), ``retrain``, or none. ``learns_from``
    is what a training learns from: the labels, the parent model, or a float ancestor.
    """

    name: str
    package: str
    script: str
    has_parent: bool = True
    makes_network: bool = False  # a float network of its own; the other kinds change their parent's
    trains: bool = False
    quantizes: bool = False  # turns float weights into codes
    gives_codes: bool = False  # its models have quantized layers
    needs_codes: bool = False  # its parent must have some, unless the stage's keys say `float_parent`
    learns_from: str = ""
    role: str = ""

    @property
    def folder(self) -> str:
        """The folder of the stages' files, relative to the one that holds the package ``kdq``."""
        return f"{self.package.replace('.', '/')}/methods"


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "root",
            "kdq.roots",
            "scripts/train_root.py",
            has_parent=False,
            makes_network=True,
            trains=True,
            learns_from="labels",
            role="network",
        ),
        Kind(
            "distill",
            "kdq.distill",
            "scripts/distill.py",
            makes_network=True,
            trains=True,
            learns_from="parent",
            role="network",
        ),
        Kind("quantize", "kdq.quantize", "scripts/quantize.py", quantizes=True, gives_codes=True),
        Kind(
            "retrain",
            "kdq.retrain",
            "scripts/retrain.py",
            trains=True,
            gives_codes=True,
            needs_codes=True,
            learns_from="ancestor",
            role="retrain",
        ),
    )
}
