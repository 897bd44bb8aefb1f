"""Initial weights of a student from a network for ImageNet: all tensors except those whose shapes must differ."""

from torch import nn

from kdq.errors import UserError
from kdq.roots.sources.fetch import fetch
from kdq.roots.sources.hub import compare, read

FIRST_CONVOLUTION = "conv1.weight"
COUNTER = ".num_batches_tracked"


def start_from_imagenet(student: nn.Module, keys: dict, log) -> None:
    """Load the file that ``keys`` (of ``kdq.roots.sources.keys.Fetched``) name into ``student``.

    The classifier keeps its new weights, and with the stem of CIFAR so does a ResNet's first convolution, which is 3x3
    there and 7x7 in the file. Raise UserError if any other tensor is missing, unexpected or of another shape, except
    for the BatchNorms' counters of batches, which the oldest files lack and nothing here reads. The student's images
    are normalised by its data set's statistics, not by ImageNet's.
    """
    architecture = student.architecture
    if "stem" not in architecture:
        name = architecture["architecture"]
        raise UserError(f"student: found imagenet, of {name}, expected fresh, and weights for it by the key weights")
    resized = [f"{student.classifier_name}.weight", f"{student.classifier_name}.bias"]
    resized += [FIRST_CONVOLUTION] if architecture["stem"] == "cifar" else []
    fresh = [name for name in resized if name in student.state_dict()]
    path = fetch({"source": "hub", **keys})["weights"]
    given, expected = (
        {name: value for name, value in state.items() if name not in fresh}
        for state in (read(path), student.state_dict())
    )
    given = {name: value for name, value in expected.items() if name.endswith(COUNTER)} | given
    compare(path, given, expected, [], architecture)
    student.load_state_dict(given, strict=False)  # missing are only ``fresh``, as compared above
    log(f"{path}: {len(given)} tensors; new are {', '.join(fresh)}")
