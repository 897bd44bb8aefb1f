"""The networks there are: one entry per family, one module per entry, imported when a network is built.

The module gives ``build(architecture, **arguments)``, a network of :mod:`kdq.models.network`'s interface, and
``outline(architecture, **arguments)``, the shapes of the weights that determine its size. Planning reads the names
from here without importing torch.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from kdq.errors import UserError, nearest, shown

OWN_KEYS, LIBRARY_KEYS = ("stem", "width"), ("resize", "weights")  # of kdq.train.settings.Network
LIBRARIES = ("timm", "torchvision")


@dataclass(frozen=True)
class Family:
    """A family of networks.

    ``names`` are its architectures; with ``parse``, those named in the documentation among further ones: ``parse``
    returns ``(depth, factor)`` of a valid name, else None. ``spelling`` documents such names. ``module`` imports the
    module. The cost of a parsed name follows from those of two ``references`` at factor 1, linearly in the depth. A
    family that is ``imported`` can't be trained from scratch, so no key names it. ``stages``, the names of a network's
    stages, and ``blocks``, their number of blocks by the network's name, let the planner refuse what asks for others;
    without them the job does. ``keys`` are the keys that describe a network besides its name.
    """

    names: tuple[str, ...]
    module: Callable[[], ModuleType]
    parse: Callable[[str], tuple | None] = lambda name: None
    spelling: str = ""
    references: tuple[str, ...] = ()
    imported: bool = False
    stages: tuple[str, ...] = ()
    blocks: Callable[[str], int | None] = lambda name: None
    keys: tuple[str, ...] = OWN_KEYS

    def has(self, name: str) -> bool:
        return name in self.names or self.parse(name) is not None


# Import statements, not names of modules: fingerprints follow these, so that an edit of a network is noticed.


def _resnet():
    from kdq.models import resnet

    return resnet


def _wideresnet():
    from kdq.models import wideresnet

    return wideresnet


def _mobilenetv2():
    from kdq.models import mobilenetv2

    return mobilenetv2


def _huggingface():
    from kdq.models import huggingface

    return huggingface


def _library():
    from kdq.models import library

    return library


def _foreign():
    from kdq.models import foreign

    return foreign


def _plain_layers():
    from kdq.models import plain_layers

    return plain_layers


def _folded_norms():
    from kdq.models import folded_norms

    return folded_norms


def wide_shape(name: str) -> tuple[int, int] | None:
    """Return depth and widen factor of ``wrn<depth>-<factor>``, None for another name or a depth other than 6n + 4.

    >>> wide_shape("wrn28-10"), wide_shape("wrn27-10")
    ((28, 10), None)
    """
    match = re.fullmatch(r"wrn([1-9]\d{1,2})-([1-9]\d?)", name)
    depth, factor = map(int, match.groups()) if match else (0, 0)
    return (depth, factor) if depth % 6 == 4 else None


CHANGES = ("plain_layers", "folded")  # keys of an architecture, see `changed`


def library_name(architecture: str) -> tuple[str, str] | None:
    """Return library and name of a network that is of timm or torchvision by its spelling, None for another.

    >>> library_name("timm/resnet18"), library_name("resnet18")
    (('timm', 'resnet18'), None)
    """
    match = re.fullmatch(rf"({'|'.join(LIBRARIES)})/(\w{{1,100}})", architecture, re.ASCII)
    return match.groups() if match else None


def made_with(keys: dict) -> dict[str, str]:
    """Return the ``library`` and its version if resolved ``keys`` describe a network of one, without importing it."""
    named = library_name(keys.get("architecture", ""))
    return {"library": f"{named[0]} {installed(named[0])}"} if named else {}


def of_another_version(architecture: dict) -> str:
    """Return a remark for a message if a model's arguments name another version of its library than the one here."""
    named = library_name(str(architecture.get("architecture")))
    made, here = architecture.get("library"), installed(named[0]) if named else ""
    return f" (made with {named[0]} {shown(made)}, here is {here})" if named and made != here else ""


@cache
def installed(library: str) -> str:
    """Return the version of an installed library, "" if there is none."""
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


FOUR = ("layer1", "layer2", "layer3", "layer4")
FAMILIES = (
    Family(
        ("resnet18", "resnet34", "resnet50"),
        _resnet,
        stages=FOUR,
        blocks={"resnet18": 8, "resnet34": 16, "resnet50": 16}.get,
    ),
    Family(
        ("wrn16-2", "wrn28-10", "wrn40-1", "wrn40-2"),
        _wideresnet,
        wide_shape,
        "wrn<6n+4>-<factor>",
        ("wrn10-1", "wrn16-1"),
        stages=FOUR[:3],
        blocks=lambda name: (wide_shape(name)[0] - 4) // 2,
    ),
    Family(("mobilenetv2",), _mobilenetv2, stages=FOUR, blocks=lambda name: 17),
    Family((), _library, library_name, ", ".join(f"{name}/<name>" for name in LIBRARIES), keys=LIBRARY_KEYS),
    Family(("transformers",), _huggingface, imported=True),
    Family(("foreign",), _foreign, imported=True),
)
NAMES = tuple(name for family in FAMILIES if not family.imported for name in family.names)
SPELLINGS = tuple(family.spelling for family in FAMILIES if family.spelling)


def family_of(architecture: str) -> Family:
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

    ``plain_layers`` and ``folded`` change it, see :func:`changed`.
    """
    changes = {key: arguments.pop(key) for key in CHANGES if key in arguments}
    return changed(family_of(architecture).module().build(architecture, **arguments), **changes)


def changed(network, plain_layers=(), folded=None):
    """Return the network with the changes of its quantization, made in place: names of modules to replace, see
    :mod:`kdq.models.plain_layers`, and pairs of modules to fold, see :mod:`kdq.models.folded_norms`."""
    if folded:
        _folded_norms().fold_norms(network.eval(), folded)
    return _plain_layers().replace(network, plain_layers) if plain_layers else network


def outline(architecture: str, **arguments) -> dict[str, tuple]:
    """Return the shapes of the weights that determine how large :func:`build` makes a network, without building it."""
    names, folded = (arguments.pop(key, ()) for key in CHANGES)
    shapes = family_of(architecture).module().outline(architecture, **arguments)
    if folded:
        shapes = _folded_norms().outline(shapes, folded)
    return _plain_layers().outline(shapes, names) if names else shapes
