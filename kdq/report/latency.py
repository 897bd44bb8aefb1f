"""A cell's latency as the report reads it: keys of ``latency.json`` and their types; further keys are allowed."""

from kdq.provenance.files import checked, read_json
from kdq.recipe.vocabulary import Annotated, Base, Field
from kdq.report.metrics import Count, check_cell

Measured = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Milliseconds(Base, extra="allow"):
    """A batch of one image: the median over the rounds, and the quickest round."""

    median: Measured
    least: Measured


class Rate(Base, extra="allow"):
    """Images per second in large batches, likewise."""

    median: Measured
    most: Measured


class Ratio(Milliseconds):
    """How many times as quick as another network: over the rounds the median, the lowest and the highest."""

    most: Measured


class Times(Base, extra="allow"):
    """Times in a runtime, by what ran: ``model``, ``float``, ``root``, or one of them ``@bfloat16``."""

    milliseconds: dict[str, Milliseconds]
    images_per_second: dict[str, Rate]
    speedups: dict[str, dict[str, Ratio]]  # of ``model`` over what ran, by size of the batch


class AllThreads(Times):
    """With a thread per core."""

    threads: Count


class Runtime(Times):
    """With one thread, and if there are several cores with all."""

    version: str
    all_threads: AllThreads | None = None


class Score(Base, extra="allow"):
    """Of the ONNX file on the test part: accuracy, and agreement with the model file's network."""

    top1: Share
    agreement: Share


class Onnx(Base, extra="allow"):
    """The ONNX file."""

    bytes: Annotated[Count, Field(gt=0)]
    test: Score


class Processor(Base, extra="allow"):
    """The machine."""

    name: str


class Latency(Base, extra="allow"):
    """A cell; ``busy`` is why it has no times, "" if it has."""

    dataset: str
    seed: Count
    recipe: str
    onnx: Onnx
    processor: Processor
    threads: Count
    busy: str
    runtimes: dict[str, Runtime]


def read(path) -> Latency:
    """Return the latency of a cell; raise UserError if the file is unsealed, malformed or that of another cell."""
    values = read_json(path, sealed=True)
    latency = checked(path, Latency, values)
    check_cell(path, values)
    return latency
