"""Snakemake's messages, as this workflow shows them: in the place of the handler that prints them.

A logger plugin of Snakemake's must be an installed package, before it reads the Snakefile; this workflow runs from its
folder. So the handler that Snakemake itself gave its logger is replaced, if there is one: not if the user chose a
``--logger`` that prints, nor with ``--verbose``. Its log file, ``.snakemake/log``, has everything as before. Without a
handler of that name nothing is replaced.
"""

import logging
import os
import re
import signal
from collections.abc import Callable

from snakemake_interface_logger_plugins.common import LogEvent

from kdq.stdout import print_lines
from kdq.workflow.job import ERRORS
from kdq.workflow.settings import Settings
from kdq.workflow.terminal.planned import PlannedJob
from kdq.workflow.terminal.run import Run
from kdq.workflow.terminal.screen import screen
from kdq.workflow.terminal.why import why

REPLACED = "DefaultStreamHandler"
NOTHING, PLANNING = "Nothing to be done", "Building DAG of jobs"
# the beginnings of what Snakemake says of itself; whatever else it says is shown
NOISE = re.compile(
    "Assuming unrestricted shared|Using shell: |Provided (cores|resources|remote nodes): |Rules claiming more threads|"
    "Conda environments: ignored|Singularity containers: ignored|Job stats:|Select jobs to execute|Execute .* jobs|"
    "Reasons:|Some jobs were triggered by provenance|Rules with provenance triggered|This was a dry-run|"
    "Complete log|Elapsed time: |Shutting down, this|Exiting because a job|Job .* has been submitted with SLURM|"
    f"{NOTHING}|WorkflowError:\nAt least one job did not|Removing output files of failed job"
)
FAILED_COMMAND = "returned non-zero exit status"  # said of every job that fails, with its whole command
STYLES = ((logging.ERROR, "red"), (logging.WARNING, "yellow"))


class Handler(logging.Handler):
    """Shows a run instead of ``replaced``, whose filter and format hold for what is not of this workflow.

    ``planned`` returns the jobs after planning, ``results`` the last lines of a study that is complete.
    """

    def __init__(
        self,
        replaced: logging.StreamHandler,
        settings: Settings,
        study: str,
        planned: Callable[[], list[PlannedJob]],
        results: Callable[[], list[str]],
    ):
        super().__init__()
        self.replaced, self.settings = replaced, settings
        self.study, self.planned, self.results = study, planned, results
        self.quiet = quiet(settings)
        is_live = self._shows("PROGRESS") and not settings.output.dryrun and not settings.is_on_cluster
        self.screen = screen(replaced.stream, is_live, settings.output.nocolor)
        self.run: Run | None = None
        self.numbers_are_told = False
        self._events = {
            LogEvent.JOB_INFO: self._job_started,
            LogEvent.JOB_FINISHED: self._job_finished,
            LogEvent.JOB_ERROR: self._job_failed,
            LogEvent.RUN_INFO: self._planned,
            **dict.fromkeys((LogEvent.WORKFLOW_STARTED, LogEvent.PROGRESS, LogEvent.JOB_STARTED), lambda record: None),
        }

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._events.get(getattr(record, "event", None), self._pass_on)(record)
        except Exception:  # of what is shown, never of the run
            self.handleError(record)

    def close(self) -> None:
        self.screen.close()
        super().close()

    def _shows(self, level: str) -> bool:
        return level not in self.quiet

    def _pass_on(self, record: logging.LogRecord) -> None:
        """Show what Snakemake says, unless it is noise."""
        text = self.replaced.format(record) if self.replaced.filter(record) else ""
        if text.startswith(NOTHING):
            self._nothing_to_do()
        elif text.startswith(PLANNING) and not self._shows("PROGRESS"):
            return
        elif text and text != "None" and not NOISE.match(text) and FAILED_COMMAND not in text:
            style = next((style for level, style in STYLES if record.levelno >= level), "")
            self.screen.show(*text.splitlines(), style=style)

    def _planned(self, record) -> None:
        dry = self.settings.output.dryrun
        if self.run is None:
            self.run = Run(self.study, self.planned())
            if not dry:
                self._begin()
                return
        # a dry run tells the numbers before the jobs and after them, with a plain --quiet just once
        if dry and (self.numbers_are_told or self.quiet == {"RULES", "PROGRESS"}):
            self.screen.show(*(record.getMessage().splitlines() if self._shows("PROGRESS") else ()))
            self.screen.show(*(why(self.run.jobs.values()) if self._shows("REASON") else ()))
        self.numbers_are_told = True

    def _begin(self) -> None:
        if self._shows("PROGRESS"):
            self.screen.show(*self.run.opening(self._shows("REASON")))
        if not self.settings.is_on_cluster:
            os.environ[ERRORS] = "log"
        self._note_interrupt()
        self.screen.start(self.run.frame)

    def _note_interrupt(self) -> None:
        """Let Ctrl-C, which ends the jobs too, note that these have not failed."""
        before = signal.getsignal(signal.SIGINT)

        def interrupt(number, frame):
            self.run.interrupted = True
            before(number, frame)

        if before is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)

    def _job_started(self, record) -> None:
        message = record.rule_msg or f"{record.rule_name} {', '.join(record.output)}"
        if self.settings.output.dryrun:
            if self._shows("RULES"):
                self.screen.show(message)
        elif self.run and record.jobid in self.run.jobs:
            self.run.start(record.jobid, message)

    def _job_finished(self, record) -> None:
        if self.run and record.job_id in self.run.jobs:
            line = self.run.finish(record.job_id, self.screen.width)
            if line and self._shows("RULES"):
                left = "" if self.screen.is_live or not self._shows("PROGRESS") else self.run.time_left()
                self.screen.show(f"{line}  {left}".rstrip())

    def _job_failed(self, record) -> None:
        if self.run and record.jobid in self.run.jobs:
            self.screen.show(*self.run.fail(record.jobid, next(iter(record.log), "")), style="red")
        else:
            self._pass_on(record)

    def _nothing_to_do(self) -> None:
        self.screen.show("Nothing to be done: what was asked for is there")
        if not self.settings.output.dryrun:
            self.finish()

    def finish(self) -> None:
        """End a run that succeeded: show what a complete study came to."""
        self.screen.close()
        if self.settings.is_main and self.settings.asks_for_all and "ALL" not in self.quiet:
            print_lines(self.results())

    def fail(self) -> None:
        """End a run that did not get to its end."""
        self.screen.close()
        if self.run:
            self.screen.show(*self.run.closing(), style="red" if self.run.failed else "")


def quiet(settings: Settings) -> set[str]:
    """Return what ``--quiet`` names: ALL, HOST, PROGRESS, REASON, RULES."""
    return {level.name for level in settings.output.quiet or ()}


def install(settings: Settings, *arguments) -> Handler:
    """Return a handler, in the place of that by which Snakemake prints if there is one to be replaced.

    ``arguments`` are those of :class:`Handler` after the settings.
    """
    logger = logging.getLogger("snakemake.logging")
    replaced = next((handler for handler in logger.handlers if handler.get_name() == REPLACED), None)
    if replaced is None or not settings.is_main or settings.output.verbose or "ALL" in quiet(settings):
        return Handler(logging.StreamHandler(), settings, *arguments)
    handler = Handler(replaced, settings, *arguments)
    logger.removeHandler(replaced)
    logger.addHandler(handler)
    return handler
