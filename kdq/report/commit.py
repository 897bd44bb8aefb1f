"""The commit that code lies at."""

import subprocess
from pathlib import Path


def describe(folder) -> str:
    """Return the commit of the clone at ``folder``, with ``-dirty`` if files differ from it; "" if it is no clone."""
    if not (Path(folder) / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    except OSError:
        return ""
    return "" if done.returncode else done.stdout.strip()
