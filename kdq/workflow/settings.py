"""Snakemake's settings, read from its object ``workflow`` here alone."""

import sys
from collections.abc import Callable
from pathlib import Path

from kdq.errors import UserError
from kdq.study.config import typed


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
        self.home = Path(workflow.basedir)
        self.is_main = workflow.is_main_process
        self.is_local = not workflow.remote_exec  # else on a node of a cluster, for a single job

    @property
    def config_files(self) -> list:
        """Config files in the order in which they are merged; ``(name, values)`` for values of the command line."""
        overlays = [str(file) for file in self._workflow.overwrite_configfiles]
        files = [str(file) for file in self._workflow.configfiles if str(file) not in overlays] + overlays
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

    def has_no_gpu(self, rule: str) -> bool:
        """Return whether the profile sets the GPUs of ``rule`` to 0."""
        resources = self._workflow.resource_settings.overwrite_resources.get(rule, {})
        return "gpu" in resources and resources["gpu"].value == 0

    @property
    def makes_whole_study(self) -> bool:
        """Whether this run makes every cell, on this machine. Known once the Snakefile is read, not before."""
        asked = self._workflow.dag_settings
        restricted = set(asked.targets) - {"all"} or asked.until or asked.omit_from or asked.batch
        return self.is_main and self._workflow.resource_settings.nodes is None and not restricted

    @staticmethod
    def words() -> list[str]:
        """The words of the command line, its targets among them: ``workflow`` has those only after the Snakefile.

        >>> sys.argv[1:], argv = ["--until=results/a,b=1", "results/c"], sys.argv[1:]
        >>> Settings.words()
        ['results/a,b=1', 'results/c']
        >>> sys.argv[1:] = argv
        """
        return [word.partition("=")[2] if word.startswith("--") else word for word in sys.argv[1:]]
