"""Batches of a data set that does not fit on the device: its images stay in their file, which is mapped into memory.

Worker processes gather the images of the next batches while the device works on one. They draw no random number and
change no image, so that the batches are those of :class:`kdq.data.batches.TrainingBatches`, byte for byte, whatever
the number of workers.
"""

import os
import threading
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kdq.data.batches import TrainingBatches, crops_of

WORKERS, AHEAD = 2, 4  # processes; batches that each has ready at most
SHARE = 0.5  # of the free memory that images may take


class _Gathered(Dataset):
    """Batches of ``images`` (M, C, H, W): an item is the images of a tensor of indices (B,)."""

    def __init__(self, images: Tensor):
        self.images = images

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return indices, self.images[indices]


class StreamedBatches(TrainingBatches):
    """The batches of images (M, C, H, W) on the CPU; labels (M,) are on the device, where images are augmented."""

    def _keep(self, images: Tensor) -> None:
        self.images = images

    def _read(self, parts: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        device = self.labels.device
        # threads are those of students side by side: no process is forked beside them
        workers = WORKERS if threading.current_thread() is threading.main_thread() else 0
        loader = DataLoader(
            _Gathered(self.images),
            batch_size=None,
            sampler=parts,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else it draws from torch's own, which a network's dropout draws from
        )
        for indices, images in loader:
            images = images.to(device, non_blocking=True)
            yield indices.to(device), crops_of(images, self.crop), torch.arange(len(images), device=device)


def bytes_on_device(images: Tensor, crop: int) -> int:
    """Return the bytes of uint8 images (M, C, H, W) with a margin of ``crop`` pixels."""
    count, channels, height, width = images.shape
    return count * channels * (height + 2 * crop) * (width + 2 * crop)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a device; of a CPU what the system can give without swapping."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):  # not Linux
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def is_streamed(resident: str, needed_bytes: int, device: torch.device, log) -> bool:
    """Return whether images that need so many bytes stay in their file; ``resident`` is the config's key. Log it."""
    free = free_bytes(device)
    if resident == "true" or (resident == "auto" and needed_bytes <= SHARE * free):
        return False
    sizes = f"images of {needed_bytes / 1e9:.3g} GB, {free / 1e9:.3g} GB free on {device}"
    log(f"{sizes}: read from their file batch by batch (data.resident={resident})")
    return True
