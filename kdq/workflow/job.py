"""The frame of every job: its log, a user's error in one line, the check of the planned code.

``python -m kdq.workflow.job SCRIPT --input data=FILE ...`` runs a script with an object ``snakemake`` made from the
arguments. Snakemake's ``script:`` would read the script again for every job that it plans, and every job would import
Snakemake; a grid has thousands of jobs.
"""

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import kdq
from kdq.errors import Stopped, UserError
from kdq.provenance import ledger
from kdq.provenance.files import refusal
from kdq.provenance.fingerprint import KEPT, Fingerprints, combined
from kdq.workflow import snapshot
from kdq.workflow.signals import defer_sigterm, raise_on_sigterm

HOME = Path(kdq.__file__).resolve().parent.parent
ERRORS = "KDQ_ERRORS"  # "log" if the terminal shows the error from the log, kdq/workflow/terminal/handler.py


@contextlib.contextmanager
def running(log_file):
    """Send all output of the block to ``log_file``; yield ``log``, which writes a line there with the time.

    A UserError, SIGTERM or SIGINT ends the job with one line in the log and on the terminal; a bug leaves its traceback
    in the log. The log is locked meanwhile, so that no two processes make the same files.
    """
    terminal = sys.stderr
    raise_on_sigterm()
    with locked(log_file) as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):

        def log(message) -> None:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {message}\n")

        def end(message: str, code: int = 1) -> None:
            is_shown_elsewhere = os.environ.get(ERRORS) == "log"
            try:
                log(f"error: {message}")
            except OSError:  # a full disk may be the very reason
                is_shown_elsewhere = False
            if not is_shown_elsewhere:
                print(f"error: {message}", file=terminal)
            sys.exit(code)

        try:
            yield log
            log("done")
        except UserError as error:
            end(str(error))
        except Stopped as stop:
            end(f"{stop}; the log is {log_file}", 128 + signal.SIGTERM)
        except KeyboardInterrupt:
            end("interrupted", 128 + signal.SIGINT)
        except Exception as error:
            if reason := refusal(error):  # of the log: the errors of other files name them
                end(f"{log_file}: can't be written ({reason}); see to that and start again")
            with contextlib.suppress(OSError):
                traceback.print_exc()
            end(f"{type(error).__name__}: {error}; the traceback is in {log_file}")


@contextlib.contextmanager
def locked(log_file):
    """Open and empty a log under a lock that ends with this process; exit if another process holds it."""
    try:
        file = open(log_file, "a", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
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
    """Raise UserError if the code of this job is no longer the code that it was planned with.

    Its files are those of the snapshot that modules are imported from, before and after: the running code is the code
    of the fingerprint in the result. The digests behind the fingerprint are noted beside the results, so that ``make
    verify`` can name the file that changed since.
    """
    digests = _digests(*files)
    if combined(digests) != planned:
        raise UserError(
            f"the code of {', '.join(files)} or of what is imported there changed after this run was planned; "
            "start snakemake again, it will plan with the code as it is now"
        )
    ledger.note(planned, digests)


def is_planned(job: dict, script: str) -> bool:
    """Return whether the code of this process is also what that job was planned with."""
    return combined(_digests(script, *job["files"])) == job["code"]


def _digests(*files) -> dict[str, str]:
    with defer_sigterm():  # the scan for imports panics if a signal handler raises
        return Fingerprints(HOME, KEPT, snapshot.read).digests(*files)


class Job(dict):
    """What a job depends on besides its input files, plain values; its text, in the job's command, is JSON."""

    @cached_property
    def text(self) -> str:
        return json.dumps(self)

    def __str__(self):
        return self.text


class Files(SimpleNamespace):
    """A job's input or output files by name; iterating gives each path, those of lists too."""

    def __iter__(self) -> Iterator[str]:
        for value in vars(self).values():
            yield from value if isinstance(value, list) else [value]


def request(arguments: list[str], lines: Iterable[str] = ()) -> tuple[str, SimpleNamespace]:
    """Return the script and its object ``snakemake``, from the arguments that ``Plan.command`` writes.

    Without ``--job`` the lines of standard input, ``lines``, are the job, and the name of an input with its files.

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
    parser.add_argument("--job", type=json.loads, help="what the job was planned with, JSON; without: standard input")
    parser.add_argument("--unrecorded", action="append", type=_pair, default=[], help="further params, NAME=JSON")
    given = parser.parse_args(arguments)
    lists = {}
    if given.job is None:
        lists = {name: words for name, *words in map(shlex.split, lines)}
        given.job = json.loads(*lists.pop("job"))
    return given.script, SimpleNamespace(
        input=Files(**dict(given.input), **lists),
        output=Files(**dict(given.output)),
        wildcards=SimpleNamespace(**dict(given.wildcards)),
        params=SimpleNamespace(job=given.job, **{name: json.loads(text) for name, text in given.unrecorded}),
        # those of the study, on which the bytes depend, if Snakemake has fewer cores
        threads=given.job.get("threads", given.threads),
        log=[given.log],
    )


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


if __name__ == "__main__":
    SCRIPT, SNAKEMAKE = request(sys.argv[1:], sys.stdin)
    snapshot.run(SCRIPT, snakemake=SNAKEMAKE)
