"""Tensors of a file of weights that somebody else wrote: read without running code, and refused if senseless."""

import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from kdq.errors import UserError, reason, shown
from kdq.provenance.regular_file import require
from kdq.workflow.signals import defer_sigterm

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
EXPECTED = f"expected a dense one of {', '.join(str(dtype).removeprefix('torch.') for dtype in FLOATS)}"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
VARIANCE = "running_var"  # a BatchNorm's
MOST_NAMES = 3  # of tensors in a message


def read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file, or of a file of torch, from which only tensors are loaded."""
    from safetensors.torch import load_file

    check_kind(path)
    try:
        with defer_sigterm():
            if path.suffix == ".safetensors":
                return load_file(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, whatever a damaged file means to torch
        raise UserError(f"{path}: not readable as weights ({_cause(error)})") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: no state dict but {type(state).__name__}, expected tensors by name")
    for name, value in state.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            entry = f"{shown(name)}: {type(value).__name__}"
            raise UserError(f"{path}: no state dict, expected tensors by name, found {entry}")
    return dict(state)


def check_kind(path: Path) -> None:
    """Raise UserError for what lies in the place of weights: a pipe, a web page, the pointer of Git LFS."""
    require(path, "a file of weights")
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"{path}: not readable as weights ({error.strerror})") from None
    if start.startswith(LFS_POINTER):
        raise UserError(
            f"{path}: a pointer of Git LFS, expected the weights themselves; fetch them with `git lfs pull`"
        )
    if re.match(rb"\s*<(!doctype|html|head|\?xml)", start, re.IGNORECASE):
        raise UserError(f"{path}: a page of HTML or XML, expected weights; download the file itself")


def _cause(error: Exception) -> str:
    """Return why a file can't be read. Torch's own message on code advises to run it."""
    if "weights_only" not in str(error) and "Weights only" not in str(error):
        return reason(error)
    kind = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|operand) ([\w.]+)", str(error))
    code = next(filter(None, kind.groups()), "") if kind else ""
    return f"it holds code or objects{f', {code},' if code else ''} where only tensors are read"


def check_values(path: Path, state: dict[str, Tensor], integers: Iterable[str] = ()) -> None:
    """Raise UserError for the first tensor that can't be a weight in float32: its type or its values.

    ``integers`` are the names whose tensors count something and are no weights.
    """
    integers = set(integers)
    for name, tensor in state.items():
        kind = _foreign_kind(tensor)
        whole = not kind and not tensor.is_floating_point() and tensor.dtype != torch.bool
        if name in integers and not whole:
            kind = kind or str(tensor.dtype).removeprefix("torch.")
            raise UserError(f"{path}: the tensor {name} is {kind}, expected integers")
        if name in integers:
            continue
        if kind or tensor.dtype not in FLOATS:
            kind = kind or str(tensor.dtype).removeprefix("torch.")
            raise UserError(f"{path}: the tensor {name} is {kind}, {EXPECTED}")
        _check_numbers(path, name, tensor)


def _foreign_kind(tensor: Tensor) -> str:
    """Return what makes a tensor no array of numbers in memory, else ""."""
    kinds = {
        "without values (on the device meta)": tensor.is_meta,
        "quantized": tensor.is_quantized,
        f"sparse ({str(tensor.layout).removeprefix('torch.')})": tensor.layout != torch.strided,
        "nested": tensor.is_nested,
        str(tensor.dtype).removeprefix("torch."): tensor.is_complex(),
    }
    return next((kind for kind, applies in kinds.items() if applies), "")


def _check_numbers(path: Path, name: str, tensor: Tensor) -> None:
    bad = ~torch.isfinite(tensor.float())
    if bad.any():
        value = tensor[bad].flatten()[0].item()
        raise UserError(
            f"{path}: the tensor {name} has {int(bad.sum()):,} of {tensor.numel():,} values that are not finite "
            f"in float32, such as {value:g}; expected finite ones"
        )
    if name.rpartition(".")[2] == VARIANCE and (tensor < 0).any():
        raise UserError(f"{path}: the tensor {name} has variances below 0, such as {tensor.min().item():g}")


def names(faulty: dict[str, list[str]]) -> str:
    """Return a message on the tensors with each fault, the first few of them named; "" if there are none.

    >>> names({"missing": ["a"], "unexpected": list("bcde")})
    'the tensor a is missing (1 in all are), the tensors b, c, d are unexpected (4 in all are)'
    """
    parts = []
    for fault, tensors in faulty.items():
        if tensors:
            verb, plural = ("is", "") if len(tensors) == 1 else ("are", "s")
            listed = ", ".join(tensors[:MOST_NAMES])
            parts.append(f"the tensor{plural} {listed} {verb} {fault} ({len(tensors)} in all are)")
    return ", ".join(parts)


def types(state: dict[str, Tensor]) -> str:
    """Return how many tensors there are and which types of theirs are stored as float32.

    >>> types({"a": torch.zeros(1, dtype=torch.float16), "b": torch.zeros(1)})
    '2 tensors, float16 stored as float32'
    """
    cast = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} - {torch.float32}
    stored = f", {', '.join(sorted(str(dtype).removeprefix('torch.') for dtype in cast))} stored as float32"
    return f"{len(state)} tensors{stored if cast else ''}"
