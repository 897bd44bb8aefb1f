"""The file of a teacher's logits for all views (crops and flips) of all training images.

An image has 2 (2 crop + 1)^2 views, 162 for a crop of 4, and the file 162 x images x classes float16 numbers: 146 MB
for CIFAR-10. It pays if the students of one teacher train for more epochs together than there are views.
"""

from torch import Tensor

from kdq.data.batches import view_count
from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.provenance.files import read_tensors
from kdq.provenance.formats import VIEWS as FORMAT


def read(path, prepared: Prepared, *, crop: int, flip: bool, **made_for: str) -> Tensor:
    """Return the logits (views, M, classes) in the file ``path``, mapped and not loaded.

    ``made_for`` is what the header must hold: ``data`` and ``teacher``, the SHA-256 of the files that the logits were
    computed from, and ``precision``, the dtype that the teacher computed in. Raise UserError, which names the file, if
    it is missing, truncated, foreign, or made from or for something else.
    """
    header, tensors = read_tensors(path, FORMAT)
    for key, value in {"crop": crop, "flip": flip, **made_for}.items():
        if header.get(key) != value:
            message = f"{path}: {key} is {header.get(key)!r}, expected {value!r}; remove the file and run again"
            unlike = ", on unlike machines with another value of the key precision than auto"
            raise UserError(message + (unlike if key == "precision" else ""))
    shape = (view_count(crop, flip), len(prepared.train.labels), len(prepared.classes))
    found = {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
    if found != {"logits": ("torch.float16", shape)}:
        raise UserError(f"{path}: holds {found}, expected float16 logits {shape}; remove the file and run again")
    return tensors["logits"]
