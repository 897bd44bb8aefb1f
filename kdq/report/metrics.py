"""What the report reads of a cell's metrics: the keys of ``metrics.json`` and their types."""

from pydantic import ConfigDict, FiniteFloat

from kdq.recipe.vocabulary import Base


class Open(Base):
    """Besides the keys that are read there may be others."""

    model_config = ConfigDict(extra="allow")


class Part(Open):
    """What is measured on the validation or the test part; the agreements are missing for a root."""

    images: int
    top1: FiniteFloat
    top5: FiniteFloat
    cross_entropy: FiniteFloat
    expected_calibration_error: FiniteFloat
    agreement_parent: FiniteFloat | None = None
    agreement_root: FiniteFloat | None = None


class Layer(Open):
    """A quantized layer."""

    name: str
    weights: int
    bits: int | None = None  # none for a random layer of `ntklc`
    levels: str
    scale: FiniteFloat | None = None
    relative_error: FiniteFloat | None = None


class Metrics(Open):
    """A cell."""

    dataset: str
    seed: int
    recipe: str
    keys: dict
    validation: Part
    test: Part
    file_bytes: int
    entropy_bytes: int | None
    nominal_bits: FiniteFloat
    parameters: int
    quantized_weights: int
    layers: list[Layer]
