"""Where a job computes, in which precision, and reproducibly."""

import os
import platform
import resource

import torch


def prepare(threads: int) -> torch.device:
    """Choose the device and make what follows reproducible: same seed, same machine, same threads, same bytes."""
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        # what we call is reproducible on a CPU as it is; to say so to torch would import its compiler, seconds a job
        return torch.device("cpu")
    # cuBLAS reads this when it starts; without it its matrix products are not reproducible
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda")


def device_name(device: torch.device) -> str:
    """What the device calls itself, for the provenance of a result."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The dtype that ``auto``, ``bfloat16`` or ``float32`` stands for; ``auto`` is bfloat16 where it is native."""
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def autocast(dtype: torch.dtype, device: torch.device):
    """A context in which matrix products and convolutions compute in ``dtype``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory so far: of the device, or on a CPU of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
