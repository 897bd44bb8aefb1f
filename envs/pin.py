"""Write envs/kdq.yaml, for `snakemake --sdm conda`, from the pins in requirements.txt."""

import re
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


if __name__ == "__main__":
    text = environment((HOME / "requirements.txt").read_text(encoding="utf-8"))
    (HOME / "envs" / "kdq.yaml").write_text(text, encoding="utf-8")
