"""What every job does around its work: log first, one line for a user's error, code as it was planned.

Run as a module it is one job of a cell: ``python -m kdq.workflow.job SCRIPT --input data=FILE ...`` runs the script with an
object ``snakemake`` made from the arguments. Snakemake's own ``script:`` reads the script again for every job that it
plans, and every job imports Snakemake; a grid has thousands of jobs.
"""

import argparse
import contextlib
import fcntl
import json
import runpy
import signal
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import kdq
from kdq.errors import Stopped, UserError
from kdq.provenance import ledger
from kdq.provenance.files import refusal
from kdq.provenance.fingerprint import KEPT, Fingerprints, combined
from kdq.workflow.signals import stop_on_sigterm, stopped_later

HOME = Path(kdq.__file__).resolve().parent.parent


@contextlib.contextmanager
def running(log_file):
    """Send all output of the block to ``log_file``; yield ``log``, which writes a line there with the time.

    A UserError ends the job with its one line in the log and on the terminal, and so does SIGTERM; a defect leaves its
    traceback in the log. The log is locked meanwhile: nobody else makes the same files at the same time.
    """
    terminal = sys.stderr
    stop_on_sigterm()
    with locked(log_file) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):

        def log(message) -> None:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

        def end(message: str, code: int = 1) -> None:
            print(f"error: {message}", file=terminal)
            with contextlib.suppress(OSError):  # a full disk may be the very reason
                log(f"error: {message}")
            sys.exit(code)

        try:
            yield log
            log("done")
        except UserError as error:
            end(str(error))
        except Stopped as stop:
            end(f"{stop}; the log is {log_file}", 128 + signal.SIGTERM)
        except Exception as error:
            if reason := refusal(error):  # what else is written says so itself
                end(f"{log_file}: can't be written ({reason}); see to that and start again")
            with contextlib.suppress(OSError):
                traceback.print_exc()
            end(f"{type(error).__name__}: {error}; the traceback is in {log_file}")


@contextlib.contextmanager
def locked(log_file):
    """Open a log for writing, empty, under a lock that ends with this process; the job ends where another has it."""
    try:
        file = open(log_file, "a", buffering=1)  # noqa: SIM115
    except OSError as error:
        sys.exit(f"error: {log_file}: can't be written ({error.strerror})")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(f"error: {log_file}: another process writes it, and makes the same files; wait for it or stop it")
    except OSError:
        pass  # a file system without locks
    with contextlib.suppress(OSError):  # a device has nothing to empty
        file.truncate(0)
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # what could not be written is tried again at the end
            file.close()


def check_code(planned: str, *files) -> None:
    """Raise UserError when the code on disk is no longer the code that this job was planned with.

    Called after the imports: what is running is then what the fingerprint in the result says. What it stands for is
    noted beside the results, so that they can tell which file changed since.
    """
    digests = _digests(*files)
    if combined(digests) != planned:
        raise UserError(
            f"the code of {files[-1]} or of what it imports changed after this run was planned; "
            "start snakemake again, it will plan with the code as it is now"
        )
    ledger.note(planned, digests)


def is_planned(job: dict, script: str) -> bool:
    """Is the code of another job, as ``check_code`` has it, that with which the job was planned?"""
    return combined(_digests(script, job["file"])) == job["code"]


def _digests(*files) -> dict[str, str]:
    with stopped_later():  # the scan for imports panics where a signal's handler raises
        return Fingerprints(HOME, KEPT).digests(*files)


def cell(wildcards) -> dict:
    """What the file of a job's model says of its cell, of the ``wildcards`` of the rule; a root has no parent.

    >>> cell(SimpleNamespace(dataset="digits", seed="0", parent="teacher", stage="kd"))
    {'recipe': 'teacher/kd', 'dataset': 'digits', 'seed': 0}
    """
    stages = (getattr(wildcards, "parent", ""), wildcards.stage)
    return {"recipe": "/".join(filter(None, stages)), "dataset": wildcards.dataset, "seed": int(wildcards.seed)}


class Job(dict):
    """What a job depends on besides its input files, plain values; as a text, in the job's command, it is JSON."""

    def __str__(self):
        return json.dumps(self)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def request(arguments: list[str]) -> tuple[str, SimpleNamespace]:
    """The script and its object ``snakemake``, of the arguments that ``command`` in rules/common.smk writes.

    >>> script, snakemake = request(["a.py", "--input", "data=d", "--threads", "2", "--log", "l", "--job", '{"k": 1}'])
    >>> script, snakemake.input.data, snakemake.threads, snakemake.log, snakemake.params.job
    ('a.py', 'd', 2, ['l'], {'k': 1})
    """
    parser = argparse.ArgumentParser(prog="python -m kdq.workflow.job", description="Run the script of one job.")
    parser.add_argument("script")
    for name in ("input", "output", "wildcards"):
        parser.add_argument(f"--{name}", nargs="*", type=_pair, default=[], metavar="NAME=VALUE")
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--job", type=json.loads, required=True, help="what the job was planned with, JSON")
    parser.add_argument("--beside", type=json.loads, default=None, help="other jobs that this one may advance, JSON")
    given = parser.parse_args(arguments)
    named = {name: SimpleNamespace(**dict(getattr(given, name))) for name in ("input", "output", "wildcards")}
    params = SimpleNamespace(job=given.job, beside=given.beside)
    return given.script, SimpleNamespace(**named, params=params, threads=given.threads, log=[given.log])


if __name__ == "__main__":
    SCRIPT, SNAKEMAKE = request(sys.argv[1:])
    runpy.run_path(SCRIPT, {"snakemake": SNAKEMAKE})
