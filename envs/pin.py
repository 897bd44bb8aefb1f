"""Write envs/kdq.yaml, for `snakemake --sdm conda`, from the pins in requirements.txt.

With ``--cpu``, print the pins of a machine without a GPU: all with their hashes but PyTorch's and CUDA's, or with
``--cpu torch`` PyTorch's alone, without hashes, since its CPU builds have the same versions but other hashes.
"""

import re
import sys
from pathlib import Path

HOME = Path(__file__).resolve().parent.parent
HEADER = """# Written by `make pins` from requirements.txt: the same versions, for `snakemake --sdm conda`.
name: kdq
channels: [conda-forge, nodefaults]
dependencies:
  - python=3.11
  - pip
  - pip:
"""


def pins(requirements: str) -> list[str]:
    """Return the requirements without hashes, in order, such as ``numpy==2.4.6 ; python_full_version < '3.12'``."""
    lines = (line.rstrip(" \\") for line in requirements.splitlines())
    return [line for line in lines if re.match(r"[A-Za-z0-9][\w.\-]*==", line)]


def environment(requirements: str) -> str:
    """Return the text of the conda environment."""
    return HEADER + "".join(f'      - "{pin}"\n' for pin in pins(requirements))


def cpu_requirements(requirements: str) -> tuple[str, str]:
    """Return the requirements but for PyTorch and CUDA, with hashes, and PyTorch's pins, without."""
    entries = re.split(r"^(?=[A-Za-z0-9])", requirements, flags=re.MULTILINE)
    torch = [entry for entry in entries if re.match(r"torch(vision)?==", entry)]
    rest = [entry for entry in entries if not re.match(r"torch(vision)?==|triton==|nvidia-|cuda-", entry)]
    return "".join(rest), "".join(f"{entry.split()[0]}\n" for entry in torch)


if __name__ == "__main__" and "--cpu" in sys.argv:
    print(cpu_requirements((HOME / "requirements.txt").read_text(encoding="utf-8"))["torch" in sys.argv], end="")
elif __name__ == "__main__":
    text = environment((HOME / "requirements.txt").read_text(encoding="utf-8"))
    (HOME / "envs" / "kdq.yaml").write_text(text, encoding="utf-8")
