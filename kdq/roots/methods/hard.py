"""The control: a student trained on labels alone."""

from kdq.recipe.vocabulary import Annotated, Base, Field, ProperFraction


class Parameters(Base):
    label_smoothing: Annotated[
        ProperFraction, Field(description="share of each label that is spread over all classes")
    ] = 0.0
