"""A teacher's logits of all views (crops and flips) of all training images: the file, and reading from it.

An image has 2 (2 crop + 1)^2 views, 162 for a crop of 4, and the file 162 x images x classes float16 numbers: 146 MB
for CIFAR-10. It pays where the students of one teacher train for more epochs together than there are views.
"""

from torch import Tensor

from kdq.data.batches import Batch, view_count
from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.provenance.files import read_tensors
from kdq.provenance.formats import VIEWS as FORMAT


class CachedLogits:
    """Logits (views, M, classes) that stand for a teacher; on a CPU they stay in the file, mapped into memory."""

    def __init__(self, logits: Tensor):
        self.logits = logits

    def of(self, batch: Batch) -> Tensor:
        """Logits (B, classes) in float32 of a batch that has ``views``."""
        if batch.views is None:
            raise ValueError("the batch's images are no views that the cache of the teacher knows: mixed or cut out")
        return self.logits[batch.views, batch.indices].float()


def read(path, prepared: Prepared, *, crop: int, flip: bool, precision: str, data: str, teacher: str) -> Tensor:
    """The logits (views, M, classes) in the file ``path``, not loaded before they are used.

    ``data`` and ``teacher`` are the SHA-256 of the files that it must have been made from, ``precision`` is the dtype
    that the teacher must have computed in. Raises UserError, which names the file, where it is missing, truncated,
    foreign, or made from or for something else.
    """
    header, tensors = read_tensors(path, FORMAT)
    expected = {"data": data, "teacher": teacher, "crop": crop, "flip": flip, "precision": precision}
    for key, value in expected.items():
        if header.get(key) != value:
            raise UserError(f"{path}: {key} is {header.get(key)!r}, expected {value!r}; remove the file and run again")
    shape = (view_count(crop, flip), len(prepared.train.labels), len(prepared.classes))
    found = {name: (str(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
    if found != {"logits": ("torch.float16", shape)}:
        raise UserError(f"{path}: holds {found}, expected float16 logits {shape}; remove the file and run again")
    return tensors["logits"]
