"""The teacher: a large network at the root of what is distilled from it, trained on labels or imported."""

from kdq.recipe.vocabulary import Annotated, Field, ProperFraction
from kdq.roots.keys import Source


class Parameters(Source):
    label_smoothing: Annotated[
        ProperFraction, Field(description="share of each label that is spread over all classes")
    ] = 0.0


def importer(source: str):
    """Return the function that imports a network from ``source``: ``load(prepared, keys, log)``."""
    # lazily: no other root needs them
    if source == "hub":
        from kdq.roots.sources.hub import load
    elif source == "kdq":
        from kdq.roots.sources.own_file import load
    elif source == "library":
        from kdq.roots.sources.library import load
    else:
        from kdq.roots.sources.huggingface import load
    return load
