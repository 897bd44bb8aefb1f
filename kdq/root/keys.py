"""Keys that the roots share."""

from kdq.parameters import Annotated, Base, Field, NonNegativeInt


class Shared(Base):
    """Which root it is, not how it is made: only a recipe may say it, and it is no part of the resolved keys."""

    seed: Annotated[
        NonNegativeInt | None,
        Field(description="under any seed the very model of this one, copied; only in a recipe: `teacher,seed=0/kd`"),
    ] = None
