"""A cell's metrics as the report reads them: keys of ``metrics.json`` and their types; further keys are allowed."""

from pydantic import FiniteFloat

from kdq.errors import UserError, shown
from kdq.provenance.files import checked, read_json
from kdq.recipe.path import Cell
from kdq.recipe.vocabulary import Annotated, Base, Field, Literal

Count = Annotated[int, Field(ge=0, lt=2**63)]  # as a table holds


class Part(Base, extra="allow"):
    """Measures on the validation or the test part; a root has no agreements."""

    images: Count
    top1: FiniteFloat
    top5: FiniteFloat
    cross_entropy: FiniteFloat
    expected_calibration_error: FiniteFloat
    agreement_parent: FiniteFloat | None = None
    agreement_root: FiniteFloat | None = None


class Layer(Base, extra="allow"):
    """A quantized layer."""

    name: str
    weights: Count
    bits: Count | None = None  # None for a random layer of `ntklc`
    levels: str
    scale: FiniteFloat | None = None
    relative_error: FiniteFloat | None = None


class Provenance(Base, extra="allow"):
    """What a model was made by; ``precision`` if it was trained."""

    precision: Literal["bfloat16", "float32"] | None = None


class Metrics(Base, extra="allow"):
    """A cell."""

    dataset: str
    seed: Count
    recipe: str
    keys: dict
    provenance: Provenance = Provenance()
    validation: Part
    test: Part
    file_bytes: Count
    entropy_bytes: Count | None
    nominal_bits: FiniteFloat
    parameters: Count
    sparsity: FiniteFloat
    quantized_weights: Count
    macs: Count
    bit_operations: Count
    activation_bits: Count
    layers: list[Layer]


def read(path) -> dict:
    """Return the metrics of a cell; raise UserError if the file is unsealed, malformed or that of another cell."""
    metrics = checked(path, Metrics, read_json(path, sealed=True)).model_dump(exclude_unset=True)
    check_cell(path, metrics)
    return metrics


def check_cell(path, header: dict) -> None:
    """Raise UserError unless ``header``, read from the file ``path``, names the cell in whose folder the file lies."""
    for key, expected in Cell.of(path).identity.items():
        if header.get(key) != expected:
            raise UserError(f"{path}: {key}: found {shown(header.get(key))}, expected {expected!r} as in the path")
