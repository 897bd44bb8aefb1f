"""Device, precision and reproducibility of a job."""

import os
import resource

import torch


def prepare(threads: int) -> torch.device:
    """Return the device, after making torch reproducible: same seed, machine and threads give the same bytes."""
    torch.set_num_threads(threads)
    if not torch.cuda.is_available():
        # on a CPU our operations are reproducible anyway; setting the flag imports torch's compiler, seconds per job
        return torch.device("cpu")
    # cuBLAS reads this when it starts; without it its matrix products are not reproducible
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device("cuda")


def device_name(device: torch.device) -> str:
    """Return what the bytes of a result depend on: a GPU's name, or of a CPU the maker and the kernels torch takes.

    MKL has kernels per maker, torch per vector width, oneDNN further ones for bfloat16 and AMX: all round differently.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = torch.cpu.get_capabilities()
    maker = processor.get("cpu_name", "").partition(" ")[0].partition("(")[0]  # as in "Intel(R) Xeon(R)"
    further = [name for name, flag in (("bf16", "avx512_bf16"), ("amx", "amx_tile")) if processor.get(flag)]
    words = ["cpu", processor.get("architecture"), maker, torch.backends.cpu.get_cpu_capability(), *further]
    return " ".join(filter(None, words))


def compute_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the dtype for ``auto``, ``bfloat16`` or ``float32``; ``auto`` is bfloat16 if the device computes in it."""
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def autocast(dtype: torch.dtype, device: torch.device):
    """Return a context in which matrix products and convolutions compute in ``dtype``."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far: of the device, or on a CPU of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
