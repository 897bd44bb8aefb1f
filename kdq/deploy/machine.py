"""What a measured time depends on besides the model: the processor and the versions of the runtimes.

The planner reads this module: it imports no runtime.
"""

import importlib.metadata
import importlib.util
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "i8mm", "bf16")
BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # flags of processors on which PyTorch gains by bfloat16
RUNTIMES = ("onnxruntime", "openvino", "torch")


def processor() -> dict:
    """Return the processor's name and those of its instruction sets that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    facts = dict(reversed([tuple(map(str.strip, line.split(":", 1))) for line in lines if ":" in line]))
    flags = (facts.get("flags") or facts.get("Features") or "").split()
    return {"name": facts.get("model name", "unknown"), "flags": [flag for flag in FLAGS if flag in flags]}


def runtimes() -> dict[str, str]:
    """Return the versions of the runtimes to measure: those installed, PyTorch if the processor has bfloat16."""
    names = [name for name in RUNTIMES if importlib.util.find_spec(name)]
    if not BFLOAT16 & set(processor()["flags"]):
        names.remove("torch")
    return {name: importlib.metadata.version(name) for name in names}
