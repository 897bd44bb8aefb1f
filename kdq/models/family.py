"""What a family of networks declares of itself, see :mod:`kdq.models.registry`."""

from kdq.declarations import Declaration

OWN_KEYS, LIBRARY_KEYS = ("stem", "width"), ("resize", "weights")  # of kdq.train.settings.Network


class Family(Declaration):
    """A family of networks; a file of ``kdq/models/networks/`` declares its own as a class ``Architectures``.

    ``names`` are its architectures; with ``parse``, those named in the documentation among further ones, which
    ``spelling`` documents: ``parse`` returns ``(depth, factor)`` of a valid name, else None. The cost of a parsed name
    follows from those of two ``references`` at factor 1, linearly in the depth. A family that is ``imported`` can't be
    trained from scratch, so no key names it. ``stages``, the names of a network's stages, and ``blocks``, their number
    of blocks by the network's name, let the planner refuse what asks for others; without them the job does. ``keys``
    are the keys that describe a network besides its name.
    """

    names: tuple[str, ...] = ()
    spelling: str = ""
    references: tuple[str, ...] = ()
    imported: bool = False
    stages: tuple[str, ...] = ()
    keys: tuple[str, ...] = OWN_KEYS

    @staticmethod
    def parse(name: str) -> tuple | None:
        return None

    @staticmethod
    def blocks(name: str) -> int | None:
        return None

    @classmethod
    def has(cls, name: str) -> bool:
        return name in cls.names or cls.parse(name) is not None
