"""What a file of data sets declares of them, see :mod:`kdq.data.catalog`."""

from dataclasses import dataclass

from kdq.declarations import Declaration

MAPPED_MB = 1000


@dataclass(frozen=True)
class Images:
    """The size of a data set: number of images, side in pixels, channels, classes; ``mapped`` images take no memory."""

    count: int
    side: int
    channels: int
    classes: int
    mapped: bool = False

    @property
    def megabytes(self) -> float:
        """The memory that the images take: of mapped ones at most what of their file is read at a time."""
        whole = self.count * self.side**2 * self.channels / 1e6
        return min(whole, MAPPED_MB) if self.mapped else whole


class Declared(Declaration):
    """Data sets of one source; a file of ``kdq/data/sets/`` declares its own as a class ``DataSets``.

    ``sizes`` holds their :class:`Images` by name, None if only the files tell. ``keys`` are the keys of the config's
    section ``data`` that the prepared file depends on.
    """

    sizes: dict[str, Images | None] = {}
    keys: tuple[str, ...] = ("validation_fraction", "test_fraction")
