"""The libraries whose classifiers are networks here: how these are named, and which version is installed."""

import re
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from kdq.errors import shown

LIBRARIES = ("timm", "torchvision")
REDUCTIONS = {4: "layer1", 8: "layer2", 16: "layer3", 32: "layer4"}  # stages: the image's side by a map's


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
