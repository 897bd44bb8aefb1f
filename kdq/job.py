"""What every job does around its work: log first, one line for a user's error, code as it was planned."""

import contextlib
import importlib
import sys
import time
import traceback
from pathlib import Path

import kdq
from kdq.errors import UserError
from kdq.fingerprint import Fingerprints

HOME = Path(kdq.__file__).resolve().parent.parent


@contextlib.contextmanager
def running(log_file):
    """Send all output of the block to ``log_file``; yield ``log``, which writes a line there with the time.

    A UserError ends the job with its one line in the log and on the terminal; a defect leaves its traceback in the log.
    """
    terminal = sys.stderr
    with open(log_file, "w", buffering=1) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):

        def log(message) -> None:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

        try:
            yield log
            log("done")
        except UserError as error:
            log(f"error: {error}")
            print(f"error: {error}", file=terminal)
            sys.exit(1)
        except Exception as error:
            traceback.print_exc()
            print(f"error: {type(error).__name__}: {error}; the traceback is in {log_file}", file=terminal)
            sys.exit(1)


def check_code(planned: str, *files) -> None:
    """Raise UserError when the code on disk is no longer the code that this job was planned with.

    Called after the imports: what is running is then what the fingerprint in the result says.
    """
    if Fingerprints(HOME).of(*files) != planned:
        raise UserError(
            f"the code of {files[-1]} or of what it imports changed after this run was planned; "
            "start snakemake again, it will plan with the code as it is now"
        )


def stage_module(kind: str, name: str):
    """The module of a stage, ``kdq.<kind>.<name>``."""
    return importlib.import_module(f"kdq.{kind}.{name}")
