"""Make the file of a teacher's logits of all views: every crop and flip of every training image."""

import torch
from torch import Tensor, nn

from kdq.data.batches import TrainingBatches, to_float, view_count
from kdq.data.prepared import Prepared
from kdq.errors import UserError
from kdq.models.fold import fold_batchnorm
from kdq.train.device import autocast


@torch.no_grad()
def logits_of_views(
    teacher: nn.Module,
    prepared: Prepared,
    *,
    crop: int,
    flip: bool,
    dtype: torch.dtype,
    device: torch.device,
    log,
    batch_size: int = 500,
) -> Tensor:
    """Logits (views, M, classes) float16 of the training part, on the CPU; views as ``TrainingBatches.view`` counts.

    The teacher computes as it does beside a student: eval mode, BatchNorm folded, autocast to ``dtype``. Raises
    UserError where a logit is not finite in float16.
    """
    images, labels = prepared.train.images.to(device), prepared.train.labels.to(device)
    batches = TrainingBatches(
        images, labels, batch_size=batch_size, crop=crop, flip=flip, cutout=0, fill=[0.0] * images.shape[1]
    )
    network = fold_batchnorm(teacher).to(device, memory_format=torch.channels_last)
    if device.type == "cuda":
        network = torch.compile(network)
    chunks = torch.arange(len(labels), device=device).split(batch_size)
    logits = torch.empty(view_count(crop, flip), len(labels), len(prepared.classes), dtype=torch.float16)
    for view, of_view in enumerate(logits):
        with autocast(dtype, device):
            found = [network(to_float(batches.view(chunk, torch.full_like(chunk, view)))) for chunk in chunks]
        of_view.copy_(torch.cat(found))
        if not of_view.isfinite().all():
            raise UserError(f"view {view}: the teacher gives a logit that float16 can't hold; set teacher_cache=false")
        log(f"view {view + 1}/{len(logits)}")
    return logits
