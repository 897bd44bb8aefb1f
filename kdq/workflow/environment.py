"""Which package the jobs of a workflow import."""

import os


def import_from(home: str) -> None:
    """Let every process started from this one import the package ``kdq`` that lies in ``home``."""
    others = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != home]
    os.environ["PYTHONPATH"] = os.pathsep.join([home, *others])
