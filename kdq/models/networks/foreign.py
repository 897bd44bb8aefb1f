"""Networks that are not of this package: their files name the class, and are loaded into an instance of it."""

from kdq.errors import UserError
from kdq.models.family import Family


class Architectures(Family):
    """Networks that a file names but does not describe."""

    names = ("foreign",)
    imported = True


def architecture_of(network) -> dict:
    """Return the architecture in the file of a network: its own if it is of this package, else its class by name."""
    if hasattr(network, "architecture") and isinstance(network.architecture, dict):
        return network.architecture
    return {"architecture": "foreign", "network": f"{type(network).__module__}.{type(network).__qualname__}"}


def outline(architecture: str, **_) -> dict[str, tuple]:
    """Return no shapes: only the class knows them."""
    return {}


def build(architecture: str, *, network: str):
    """Raise UserError that tells how to load the file."""
    name = network.rpartition(".")[2]
    raise UserError(f"a network of {network}, which is not KDQ's; load it by kdq.load(path, into={name}(...))")
