"""The vocabulary in which a stage's file declares its parameters.

The planner reads only the class ``Parameters`` of a stage's file, in the namespace of this module: planning a grid
never imports torch. Constraints live in the types, so that a wrong value is refused before anything runs.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = [
    "Annotated",
    "Base",
    "ClassVar",
    "Field",
    "Fraction",
    "Literal",
    "NonNegative",
    "NonNegativeInt",
    "Positive",
    "PositiveInt",
    "ProperFraction",
    "Seed",
    "Temperature",
]

# Every number has both bounds: far outside of what anybody publishes, and inside of what float32 and memory can hold.
Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
NonNegative = Annotated[float, Field(ge=0, le=1e6)]
Temperature = Annotated[float, Field(ge=0.01, le=1000)]
Fraction = Annotated[float, Field(ge=0, le=1)]
ProperFraction = Annotated[float, Field(ge=0, lt=1)]  # if all of it leaves nothing: a momentum, a smoothing
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000)]
NonNegativeInt = Annotated[int, Field(ge=0, le=1_000_000)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # what a generator of torch takes


@dataclass(frozen=True)
class NetworkFacts:
    """What is known of a network before it is built: keys that describe it, names of its stages, number of blocks.

    ``source`` is ``transformers`` for a network of that library, which gives logits alone and has no other facts.
    ``stages`` is empty and ``blocks`` None if only the network itself can tell. ``reshaped`` are the stages that gave
    the network other shapes than its architecture's own.
    """

    source: str
    description: dict
    stages: tuple[str, ...] = ()
    blocks: int | None = None
    reshaped: tuple[str, ...] = ()


class Base(BaseModel):
    """Typed, immutable parameters; an unknown key or a value of another type is an error."""

    refuses: ClassVar[dict[str, str]] = {}  # keys of the stage that must keep their default, with the reason
    conflicts: ClassVar[
        dict[tuple[str, str], str]
    ] = {}  # pairs of keys of which one must keep its default, with the reason; `key=value` is that value alone
    reshapes: ClassVar[bool] = False  # a stage gives its parent's network other shapes
    logits_only: ClassVar[bool] = False  # a method reads only the teacher's logits, of images that it does not change

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _unsigned_zero(cls, value):
        """Return 0.0 for -0.0: they are equal but not spelled alike, and one value has one spelling."""
        return 0.0 if isinstance(value, float) and value == 0 else value

    def inconsistency(self) -> str:
        """Return an error message if the keys of a stage contradict each other, shared keys included, or ""."""
        return ""

    @classmethod
    def reads(cls, keys: dict) -> str:
        """Return what a stage with all its ``keys`` reads of networks besides logits, as a message names it, or ""."""
        return ""

    @classmethod
    def misfit(cls, keys: dict, networks: dict[str, NetworkFacts]) -> str:
        """Return why a stage with all its ``keys`` can't work on ``networks``, by their role, or "".

        Roles are ``parent`` and, for a stage that makes a network, ``student``, for one that retrains, ``teacher``.
        """
        return ""

    @classmethod
    def unread(cls, values: dict) -> dict[str, str]:
        """Return the keys that a stage with ``values`` does not read, with the reason; giving one is an error."""
        return {}

    @classmethod
    def required(cls, values: dict) -> dict[str, str]:
        """Return the keys that a stage with ``values`` can't do without, with the expected value in words."""
        return {}
