"""Calibration images from a tensor or a loader, in the form that the caller says they have: nothing is guessed."""

from collections.abc import Iterable

import torch
from torch import Tensor

from kdq.errors import UserError, shown

FORMS = ("float", "uint8")


def calibration_part(images: Tensor | Iterable, form: str, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Return at most ``count`` images and their labels, int64 (M,), None if there are none.

    Of a tensor they are drawn by ``seed``; of a loader, whose batches are images or pairs of images and labels, they
    are the first. Raise UserError for images of another form, shape or type.
    """
    if form not in FORMS:
        raise UserError(f"input: found {shown(form)}, expected 'float', images as the network takes them, or 'uint8'")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise UserError(f"count: found {shown(count)}, expected a number of images")
    if isinstance(images, Tensor):
        _check(images, form)
        chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:count]
        return _of_form(images[chosen.to(images.device)]), None
    batches, labels = _collected(images, form, count)
    if not batches:
        raise UserError("images: found a loader without any, expected at least one image")
    if shapes := {tuple(batch.shape[1:]) for batch in batches} - {tuple(batches[0].shape[1:])}:
        raise UserError(f"images: found shapes {tuple(batches[0].shape[1:])} and {min(shapes)}, expected one")
    return _of_form(torch.cat(batches)[:count]), torch.cat(labels)[:count] if labels else None


def _collected(loader, form: str, count: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the first batches of a loader with ``count`` images or more, and those of labels, all or none."""
    if not isinstance(loader, Iterable):
        raise UserError(f"images: found {type(loader).__name__}, expected a tensor or a loader of batches")
    batches, labels = [], []
    for item in loader:
        batch, *rest = item if isinstance(item, tuple | list) else (item,)
        _check(batch, form)
        batches.append(batch)
        if rest:
            labels.append(_labels(rest[0], len(batch)))
        if sum(map(len, batches)) >= count:
            break
    if labels and len(labels) != len(batches):
        raise UserError("images: found batches with and without labels, expected one kind")
    return batches, labels


def _labels(labels, count: int) -> Tensor:
    if not isinstance(labels, Tensor) or labels.shape != (count,) or labels.is_floating_point():
        kind = f"{labels.dtype} {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise UserError(f"images: found labels {kind}, expected integers ({count},), one per image")
    return labels.long().cpu()


def _check(batch, form: str) -> None:
    """Raise UserError unless a batch is a tensor of images of the ``form``."""
    if not isinstance(batch, Tensor):
        raise UserError(f"images: found {type(batch).__name__}, expected a tensor or a loader of tensors")
    if batch.dim() < 2 or not len(batch):
        raise UserError(f"images: found shape {tuple(batch.shape)}, expected a batch such as (M, C, H, W)")
    if form == "uint8" and batch.dtype != torch.uint8:
        raise UserError(f"images: found {batch.dtype}, expected torch.uint8 for input='uint8'")
    if form == "float" and not batch.is_floating_point():
        raise UserError(
            f"images: found {batch.dtype}, expected floats as the network takes them; input='uint8' takes torch.uint8 "
            "and divides by 255"
        )


def _of_form(images: Tensor) -> Tensor:
    return images if images.dtype == torch.uint8 else images.float()
