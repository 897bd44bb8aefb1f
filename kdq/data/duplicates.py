"""Images that are there twice, pixel for pixel: in two parts they flatter the accuracy, in two classes they deny it."""

import hashlib

from kdq.data.prepared import PARTS, Split


def count_duplicates(parts: dict[str, Split]) -> dict[str, int]:
    """Return how many images of ``validation`` and ``test`` are in an earlier part too, and how many in two classes.

    ``parts`` are the three parts by name. The keys are "validation in train", "test in train", "test in validation" and
    "in several classes", the last over all parts. Images are equal if all their pixels are, as they are stored.
    """
    digests = {part: _digests(parts[part]) for part in PARTS}
    counts = {
        f"{later} in {earlier}": sum(digest in known for digest in digests[later])
        for number, later in enumerate(PARTS)
        for earlier in PARTS[:number]
        if (known := set(digests[earlier])) is not None
    }
    classes: dict[bytes, set[int]] = {}
    for part in PARTS:
        for digest, label in zip(digests[part], parts[part].labels.tolist(), strict=True):
            classes.setdefault(digest, set()).add(label)
    several = sum(len(classes[digest]) > 1 for part in PARTS for digest in digests[part])
    return {**counts, "in several classes": several}


def warnings(duplicates: dict[str, int], parts: dict[str, Split]) -> list[str]:
    """Return a line of warning for each count that is not 0."""
    lines = []
    for name, count in duplicates.items():
        later, _, earlier = name.partition(" in ")
        if count and later in parts:
            total = len(parts[later].labels)
            lines.append(f"warning: {count:,} of the {total:,} images of {later} are in {earlier} too, pixel for pixel")
        elif count:
            lines.append(f"warning: {count:,} images are in several classes, pixel for pixel")
    return lines


def _digests(split: Split) -> list[bytes]:
    return [hashlib.sha256(image).digest() for image in split.images.contiguous().numpy()]
