"""The version, whose one place is pyproject.toml."""

import tomllib
from importlib import metadata
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def version() -> str:
    """Return the version of this checkout, or that of the installed package."""
    if PROJECT.is_file():
        return tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["version"]
    return metadata.version("kdq")
