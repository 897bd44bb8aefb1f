"""The networks there are: every file in ``kdq/models/networks/`` that declares a class ``Architectures`` is a family.

The file gives ``build(architecture, **arguments)``, a network of :mod:`kdq.models.network`'s interface, and
``outline(architecture, **arguments)``, the shapes of the weights that determine its size. Planning reads the names
from the class alone, without importing torch. A file is imported by its name when a network is built: the fingerprint
of a job has those of its own networks, see :func:`files`, so that a new family reruns nothing.
"""

import re
from pathlib import Path

from kdq.declarations import all_declared
from kdq.errors import UserError, nearest
from kdq.models.family import LIBRARY_KEYS, OWN_KEYS, Family
from kdq.models.libraries import LIBRARIES, library_name

FOLDER, PACKAGE = Path(__file__).parent / "networks", "kdq.models.networks"
VOCABULARY = {"LIBRARIES": LIBRARIES, "LIBRARY_KEYS": LIBRARY_KEYS, "library_name": library_name, "re": re}
CHANGES = ("plain_layers", "folded", "shrunk")  # keys of an architecture, see `changed`


def _families() -> list[type[Family]]:
    """Return all families, by the names of their files; raise UserError if two have a network of the same name."""
    families = all_declared(FOLDER, "Architectures", PACKAGE, Family, VOCABULARY)
    for family in families:
        for other in families:
            if other is not family and (taken := list(filter(other.has, family.names))):
                raise UserError(f"{family.file()}: the network {taken[0]!r} is one of {other.file()} too")
    return families


FAMILIES = _families()
NAMES = tuple(name for family in FAMILIES if not family.imported for name in family.names)
SPELLINGS = tuple(family.spelling for family in FAMILIES if family.spelling)


def files(keys: dict) -> set[str]:
    """Return the files of the networks that a stage with the resolved ``keys`` builds, those of all if it imports one.

    They are relative to the folder that holds the package.
    """
    if "architecture" in keys:
        return {family_of(keys["architecture"]).file()}
    return {family.file() for family in FAMILIES} if "source" in keys else set()


def family_of(architecture: str) -> type[Family]:
    """Return the family of an architecture; raise UserError if there is none."""
    for family in FAMILIES:
        if family.has(architecture):
            return family
    raise UserError(f"architecture {architecture!r} does not exist, expected {expected(architecture)}")


def is_own(architecture: str) -> bool:
    """Return whether networks of an architecture are of this package, not of a library."""
    family = family_of(architecture)
    return not family.imported and family.keys == OWN_KEYS


def references() -> list[str]:
    """Return the architectures whose costs are counted: all others follow from these."""
    return [name for family in FAMILIES if not family.imported for name in family.references or family.names]


def cost_terms(architecture: str) -> tuple[int, dict[str, float]]:
    """Return ``(factor on the width, {reference: weight})``: a cost is the weighted sum of the references' costs.

    A WideResNet's stem has 16 channels at any factor but counts as ``factor`` times as wide: the estimates are up to
    13% too high with the CIFAR stem, 32% with the ImageNet stem.

    >>> cost_terms("resnet18"), cost_terms("wrn28-10")
    ((1, {'resnet18': 1.0}), (10, {'wrn10-1': -2.0, 'wrn16-1': 3.0}))
    """
    family = family_of(architecture)
    if not family.references:
        return 1, {architecture: 1.0}
    depth, factor = family.parse(architecture)
    (low, _), (high, _) = map(family.parse, family.references)
    share = (depth - low) / (high - low)
    return factor, dict(zip(family.references, (1 - share, share), strict=True))


def expected(name: str) -> str:
    """Return the names that exist, for a message about ``name``, with the nearest one."""
    return f"one of {', '.join((*NAMES, *SPELLINGS))}{nearest(name, NAMES)}"


def trainable(architecture: str) -> str:
    """Return the name unchanged; raise ValueError unless it names a network that can be trained from scratch.

    Whether timm or torchvision has a network, the planner asks later: it must be imported for that.
    """
    if architecture in LIBRARIES:
        raise ValueError(f"{architecture}/<name>; a recipe is a path, so such a name is written in the config")
    if not any(family.has(architecture) and not family.imported for family in FAMILIES):
        raise ValueError(expected(architecture))
    return architecture


def described(keys: dict, *, classes: int, channels: int, side: int, mean: list[float], std: list[float]) -> dict:
    """Return the arguments of :func:`build` for the network that the resolved ``keys`` of a stage describe.

    The data set has ``classes`` and images of ``side`` pixels and so many ``channels``, with ``mean`` and ``std``.
    """
    family = family_of(keys["architecture"])
    of_data = {"classes": classes, "channels": channels, "mean": mean, "std": std}
    if family.keys == LIBRARY_KEYS:
        return family.module().described(keys, side=side, **of_data)
    return {"architecture": keys["architecture"], **{key: keys[key] for key in family.keys}, **of_data}


def pretrained(weights: str, architecture: str, whole: bool = False, **arguments):
    """Return the network of timm or torchvision that :func:`build` makes, with ``weights``.

    Its classifier is new unless ``whole``.
    """
    return family_of(architecture).module().build(architecture, weights=weights, whole=whole, **arguments)


def build(architecture: str, **arguments):
    """Return a freshly initialised network; raise UserError for an architecture or stem that does not exist.

    ``plain_layers``, ``folded`` and ``shrunk`` change it, see :func:`changed`.
    """
    changes = {key: arguments.pop(key) for key in CHANGES if key in arguments}
    network = changed(family_of(architecture).module().build(architecture, **arguments), **changes)
    if changes and isinstance(getattr(network, "architecture", None), dict):  # not those of transformers
        network.architecture = network.architecture | changes
    return network


def changed(network, plain_layers=(), folded=None, shrunk=None):
    """Return the network with the changes of its pruning and quantization, made in place.

    These are shapes of modules by name, see :mod:`kdq.models.channels`, pairs of modules to fold, see
    :mod:`kdq.models.folded_norms`, and names of modules to replace, see :mod:`kdq.models.plain_layers`.
    """
    from kdq.models.channels import shrink
    from kdq.models.folded_norms import fold_norms
    from kdq.models.plain_layers import replace

    if shrunk:
        shrink(network, shrunk)
    if folded:
        fold_norms(network.eval(), folded)
    return replace(network, plain_layers) if plain_layers else network


def outline(architecture: str, **arguments) -> dict[str, tuple]:
    """Return the shapes of the weights that determine how large :func:`build` makes a network, without building it."""
    from kdq.models import channels, folded_norms, plain_layers

    names, folded, smaller = (arguments.pop(key, ()) for key in CHANGES)
    shapes = family_of(architecture).module().outline(architecture, **arguments)
    if smaller:
        shapes = channels.outline(shapes, smaller)
    if folded:
        shapes = folded_norms.outline(shapes, folded)
    return plain_layers.outline(shapes, names) if names else shapes
