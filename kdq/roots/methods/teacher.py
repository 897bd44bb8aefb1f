"""The teacher: a large network at the root of what is distilled from it, trained on labels or imported."""

from kdq.recipe.vocabulary import Annotated, Field, ProperFraction
from kdq.roots.keys import Source


class Parameters(Source):
    label_smoothing: Annotated[
        ProperFraction, Field(description="share of each label that is spread over all classes")
    ] = 0.0
