"""A student that begins with the weights of a network for ImageNet: all of them but those that can't be the same."""

from torch import nn

from kdq.roots.sources.fetch import fetch
from kdq.roots.sources.hub import compare, read

CLASSIFIER = ("fc.weight", "fc.bias")
FIRST_CONVOLUTION = ("conv1.weight",)
COUNTER = ".num_batches_tracked"


def start_from_imagenet(student: nn.Module, keys: dict, log) -> None:
    """Load the file that ``keys`` (of ``kdq.roots.sources.keys.Fetched``) name into ``student``, a ResNet of ours.

    The classifier keeps its new weights, and with the stem of CIFAR the first convolution, which is 3x3 there and 7x7
    in the file; any other tensor that is missing, too many or of another shape raises UserError. Not counted among them
    is how many batches a BatchNorm has seen, which the oldest files do not say and nothing here depends on. The
    student's images are normalised as its data set says, not as ImageNet's were.
    """
    architecture = student.architecture
    fresh = CLASSIFIER + (FIRST_CONVOLUTION if architecture["stem"] == "cifar" else ())
    path = fetch({"source": "hub", **keys})[0]
    found, expected = (
        {name: value for name, value in state.items() if name not in fresh}
        for state in (read(path), student.state_dict())
    )
    found = {name: value for name, value in expected.items() if name.endswith(COUNTER)} | found
    compare(path, found, expected, [], architecture)
    student.load_state_dict(found, strict=False)  # what it may lack is what ``fresh`` names, by the comparison
    log(f"{path}: {len(found)} tensors; new are {', '.join(fresh)}")
