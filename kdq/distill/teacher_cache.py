"""Compute a teacher's logits for all views: every crop and flip of every training image."""

import torch
from torch import Tensor, nn

from kdq.data.batches import Batch, TrainingBatches, to_float, view_count
from kdq.data.prepared import Prepared
from kdq.distill.teacher import Teacher
from kdq.errors import UserError
from kdq.train.device import autocast


def logits_of_views(
    parent: nn.Module, prepared: Prepared, *, crop: int, flip: bool, dtype: torch.dtype, device, log, batch_size=500
) -> Tensor:
    """Return the logits (views, M, classes) of ``parent`` for the training part: float16, on the CPU.

    Views are numbered as in ``TrainingBatches.view``. The forward pass is that of a student's teacher, with autocast
    to ``dtype``. Raise UserError if a logit is not finite in float16.
    """
    images, labels = prepared.train.images.to(device), prepared.train.labels.to(device)
    batches = TrainingBatches(
        images, labels, batch_size=batch_size, crop=crop, flip=flip, cutout=0, fill=[0.0] * images.shape[1]
    )
    teacher = Teacher(parent, device)

    def logits_of(indices: Tensor, view: int) -> Tensor:
        images = to_float(batches.view(indices, torch.full_like(indices, view)))
        return teacher.outputs(Batch(images, labels[indices], indices, epoch=0)).logits

    chunks = torch.arange(len(labels), device=device).split(batch_size)
    logits = torch.empty(view_count(crop, flip), len(labels), len(prepared.classes), dtype=torch.float16)
    for view, of_view in enumerate(logits):
        with autocast(dtype, device):
            of_view.copy_(torch.cat([logits_of(chunk, view) for chunk in chunks]))
        if not of_view.isfinite().all():
            raise UserError(f"view {view}: the teacher gives a logit that float16 can't hold; set teacher_cache=false")
        log(f"view {view + 1}/{len(logits)}")
    return logits
