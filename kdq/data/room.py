"""Room for the images of a data set while it is prepared, however many: in memory, or in a file that is mapped."""

import math
import os
import tempfile

import torch
from torch import Tensor

from kdq.errors import UserError

LARGE_BYTES = 1 << 30  # more is not kept in memory
CHUNK = 1024  # images that are copied at once


def room(*shape: int) -> Tensor:
    """Return a uint8 tensor of a shape, not initialised.

    A large one lies in a file of the working folder without a name, which ends with the process. Raise UserError if
    there is no room for it on the disk: a mapped page that can't be written would kill the process.
    """
    size_bytes = math.prod(shape)
    if size_bytes <= LARGE_BYTES:
        return torch.empty(shape, dtype=torch.uint8)
    with tempfile.NamedTemporaryFile(dir=os.curdir, prefix=".images-") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            place = os.path.abspath(os.curdir)
            raise UserError(f"{place}: no room for {size_bytes / 1e9:.3g} GB of images ({error.strerror})") from None
        return torch.from_file(file.name, shared=True, size=size_bytes, dtype=torch.uint8).view(shape)


def selected(images: Tensor, taken: Tensor) -> Tensor:
    """Return the images (M, C, H, W) that the mask (M,) takes, in order, in such room."""
    rows = taken.nonzero().flatten()
    result = room(len(rows), *images.shape[1:])
    for chosen, part in zip(rows.split(CHUNK), result.split(CHUNK), strict=True):
        torch.index_select(images, 0, chosen, out=part)
    return result
