"""Snakemake's settings, read from its object ``workflow`` here alone."""

import sys
from collections.abc import Callable
from pathlib import Path

from kdq.errors import UserError
from kdq.recipe.path import RESULTS
from kdq.study.config import typed
from kdq.study.files import config_files


def or_stop(function: Callable, *arguments):
    """Return the function's result; on a UserError print its line and end Snakemake before it plans."""
    try:
        return function(*arguments)
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(1) from None


class Settings:
    """The settings of a run; ``workflow`` is Snakemake's, as a Snakefile sees it."""

    def __init__(self, workflow):
        self._workflow = workflow
        self.home = Path(workflow.basedir).resolve()  # as modules have it: a path of -s may be relative, or a link
        self.is_main = workflow.is_main_process
        self.is_local = not workflow.remote_exec  # else on a node of a cluster, for a single job

    @property
    def config_files(self) -> list:
        """Config files in the order in which they are merged; ``(name, values)`` for values of the command line."""
        files = config_files(self._workflow.overwrite_configfiles, self.home)
        return [*files, ("--config", self.overrides)] if self.overrides else files

    @property
    def overrides(self) -> dict:
        """The values of ``--config``, numbers as numbers."""
        return or_stop(typed, dict(self._workflow.config_settings.config or {}))

    @property
    def python(self) -> str:
        """The jobs' Python: that of a conda environment, else Snakemake's."""
        methods = self._workflow.deployment_settings.deployment_method
        return "python" if any(method.name == "CONDA" for method in methods) else sys.executable

    @property
    def cores(self) -> int:
        return self._workflow.resource_settings.cores or 1

    @property
    def is_on_cluster(self) -> bool:
        """Whether the jobs are submitted to nodes, which have cores of their own."""
        return self._workflow.resource_settings.nodes is not None

    def has_no_gpu(self, rule: str) -> bool:
        """Return whether the profile sets the GPUs of ``rule`` to 0."""
        resources = self._workflow.resource_settings.overwrite_resources.get(rule, {})
        return "gpu" in resources and resources["gpu"].value == 0

    @property
    def asks_for_all(self) -> bool:
        """Whether every file of the study is asked for. Known once the Snakefile is read, not before."""
        asked = self._workflow.dag_settings
        return not (set(asked.targets) - {"all"} or asked.until or asked.omit_from or asked.batch)

    @property
    def makes_whole_study(self) -> bool:
        """Whether this run makes every cell, on this machine. Known once the Snakefile is read, not before."""
        return self.is_main and not self.is_on_cluster and self.asks_for_all

    @property
    def forces(self) -> bool:
        """Whether the command line makes jobs run that need not. Known once the Snakefile is read."""
        asked = self._workflow.dag_settings
        return bool(asked.forcerun or asked.forceall or asked.forcetargets)

    @property
    def dag(self):
        """Snakemake's graph of jobs. Known after planning."""
        return self._workflow.dag

    @property
    def output(self):
        """What the command line says of output: ``quiet``, ``verbose``, ``nocolor``, ``dryrun``."""
        return self._workflow.output_settings

    @property
    def asked(self) -> set[str]:
        """The rules and files that this run is to make, to stop at, to leave out or to force, as Snakemake parsed them.

        From the command line or a profile; known once the Snakefile is read.
        """
        asked, scheduling = self._workflow.dag_settings, self._workflow.scheduling_settings
        first = scheduling.prioritytargets if scheduling else ()
        words = (asked.targets, asked.until, asked.omit_from, asked.forcerun, asked.allowed_rules, first)
        return {word for group in words for word in group or ()}

    @property
    def until_nothing(self) -> list[str]:
        """The rules and files of ``--until`` if none of them is planned, so that nothing is. Known after planning."""
        return [] if self._workflow.dag.targetjobs else sorted(self._workflow.dag_settings.until or ())

    @property
    def rules(self) -> set[str]:
        return {rule.name for rule in self._workflow.rules}

    @property
    def executor(self) -> str:
        """The name of the executor of this run, such as ``local``, ``dryrun`` or ``slurm``. Known before it plans."""
        plugin = getattr(self._workflow, "_executor_plugin", None)
        return plugin.name if plugin else ""

    def before_planning(self, check: Callable[[], None]) -> None:
        """Call ``check`` just before Snakemake plans, when it knows what the run was asked for."""
        self._around("_prepare_dag", before=check)

    def after_planning(self, report: Callable[[], None]) -> None:
        """Call ``report`` once Snakemake has planned."""
        self._around("_build_dag", after=report)

    def with_records(self, use: Callable) -> None:
        """Call ``use`` with Snakemake's records as soon as they can be read, before it plans."""
        self._around("_prepare_dag", after=lambda: use(self._workflow.persistence))

    def _around(self, name: str, before: Callable = lambda: None, after: Callable = lambda: None) -> None:
        """Wrap a private method of the workflow; without the method, or on a node of a cluster, do nothing."""
        method = getattr(self._workflow, name, None)
        if method is None or not self.is_main:
            return

        def wrapped(*arguments, **options):
            before()
            method(*arguments, **options)
            after()

        setattr(self._workflow, name, wrapped)

    @property
    def reruns_changed_params(self) -> bool:
        return any(trigger.name == "PARAMS" for trigger in self._workflow.rerun_triggers)

    def check_config_files(self) -> None:
        """Raise UserError if a target was read as a config file: ``--configfile`` takes all words that follow it."""
        results = Path(RESULTS).resolve()
        for file in map(Path, self._workflow.overwrite_configfiles):
            if file.resolve().is_relative_to(results):
                target, study = file.resolve().relative_to(results.parent), self._workflow.overwrite_configfiles[0]
                raise UserError(
                    f"{target}: found a result among the config files, since --configfile takes all words after it; "
                    f"expected targets first: snakemake {target} --configfile {Path(study).name}"
                )
