"""Whether a network from outside has a data set's classes, in the data set's order."""

import re

from kdq.errors import UserError

IMAGENET_CLASSES, FIRST_OF_IMAGENET = 1000, "tench"
WORDNET = re.compile(r"n\d{8}")  # ImageNet's names of folders, in whose order its classes are


def check_classes(where, named: list[str], classes: list[str], labels: str, log) -> None:
    """Raise UserError unless a model of the classes ``named`` has the data set's ``classes`` in the data set's order.

    The folders of ImageNet have WordNet's numbers, and a network names what is in them: these count as its classes.
    ``where`` begins a message; ``labels`` is the key.
    """
    if len(named) != len(classes):
        raise UserError(f"{where}: a model of {len(named)} classes, the data set has {len(classes)}")
    plain, wanted = _plain(named, classes)
    if plain == wanted or _are_imagenet(classes) and FIRST_OF_IMAGENET in plain[0]:
        return
    index = next(index for index, pair in enumerate(zip(plain, wanted, strict=True)) if len(set(pair)) > 1)
    differ = f"class {index} is {named[index]!r}, the data set's is {classes[index]!r}"
    places = {name: place for place, name in enumerate(wanted)}
    if displaced := [place for place, name in enumerate(plain) if places.get(name, place) != place]:
        place = displaced[0]
        differ = f"class {place} is {named[place]!r}, the data set's is {classes[place]!r}"
        same = "the same" if sorted(plain) == sorted(wanted) else "some of the"
        raise UserError(f"{where}: {same} classes in another order: {differ}")
    if labels == "names":
        raise UserError(f"{where}: other classes: {differ}; if only the names differ, labels=order accepts the order")
    log(f"{where}: {differ}; the order is accepted because of labels=order")


def _are_imagenet(classes: list[str]) -> bool:
    return len(classes) == IMAGENET_CLASSES and all(map(WORDNET.fullmatch, classes))


def _plain(*lists: list[str]) -> list[list[str]]:
    """Return the names without case, spaces and signs, but unchanged if that makes two of one list the same."""
    plain = [[re.sub(r"[\W_]+", "", name.casefold()) for name in names] for names in lists]
    distinct = all(len(set(short)) == len(set(names)) for short, names in zip(plain, lists, strict=True))
    return plain if distinct else list(lists)
