"""The predictions file: what a model predicts for each image, read by its children's evaluations and comparisons."""

from torch import Tensor

from kdq.errors import UserError
from kdq.provenance.files import read_tensors
from kdq.provenance.formats import PREDICTIONS as FORMAT


def read(path) -> tuple[dict, dict[str, Tensor]]:
    """Return the header and the tensors: per part the classes int16 (M,) that the model and its root, if any, predict.

    Also the labels' log-likelihoods float32 (M,). Raise UserError for a file of another kind.
    """
    header, tensors = read_tensors(path, FORMAT)
    for name, tensor in tensors.items():
        expected = "torch.int16" if name.endswith("_class") else "torch.float32"
        if str(tensor.dtype) != expected or tensor.dim() != 1:
            found = f"{tensor.dtype} {tuple(tensor.shape)}"
            raise UserError(f"{path}: {name} is {found}, expected {expected} of one value per image")
    return header, tensors


def classes(path, tensors: dict[str, Tensor], part: str, images: int) -> Tensor:
    """Return the classes int16 (images,) predicted for a part; raise UserError if they are missing or not as many."""
    predicted = tensors.get(f"{part}_class")
    if predicted is None or len(predicted) != images:
        found = "no classes" if predicted is None else f"{len(predicted)} {part} images"
        raise UserError(f"{path}: {found}, expected the classes of {images} images of the {part} part")
    return predicted
