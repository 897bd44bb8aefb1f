"""The check that jobs can be submitted: without SLURM the plugin fails for every job anew, at length."""

import os
import shutil
import subprocess

from kdq.errors import UserError, reason

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")  # that the plugin calls
INSTEAD = "start on a node that submits jobs, or leave out --workflow-profile profiles/slurm"


def check() -> None:
    """Raise UserError if a command of SLURM's is missing here or its controller does not answer."""
    for command in COMMANDS:
        if not shutil.which(command):
            raise UserError(f"{command}: no such command on this machine, expected SLURM; {INSTEAD}")
    command = ["squeue", "--noheader", "--user", str(os.getuid())]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"squeue: {reason(error)}, expected an answer of SLURM's controller; {INSTEAD}") from None
    if answer.returncode != 0:
        lines = answer.stderr.strip().splitlines() or [f"exit code {answer.returncode}"]
        raise UserError(f"squeue: found {lines[-1]!r}, expected an answer of SLURM's controller; {INSTEAD}")
