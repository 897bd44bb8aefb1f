"""Take over results that were copied here: ``python -m kdq.workflow.adopt [--configfile FILE ...]``, beside ``results/``.

Snakemake judges files by their times and by the records in ``.snakemake``; a copy may have neither. What verifies as
fresh is told to Snakemake as made just now; what does not is moved out of ``results/``, so that the next run makes
exactly that again. Nothing is deleted.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance.verify import study
from kdq.provenance.verify.results import Row, verify

RESULTS = Path("results")


def move_aside(paths: list[str]) -> Path:
    """Move files below ``results/`` to the same place below a new folder; returns that folder."""
    names = itertools.chain(["results.aside"], (f"results.aside.{count}" for count in itertools.count(2)))
    aside = next(path for path in map(Path, names) if not path.exists())
    for path in paths:
        place = aside / Path(path).relative_to(RESULTS)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, place)
    return aside


def touch(paths: list[str], configfiles: list[str]) -> None:
    """Let Snakemake believe that it has just made these files, as ``snakemake --touch --forceall`` does.

    By Snakemake's interface for Python, since a command line does not hold the paths of a large grid.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.executors.touch import Executor
    from snakemake.settings.types import (
        ConfigSettings,
        DAGSettings,
        ExecutionSettings,
        OutputSettings,
        Quietness,
        ResourceSettings,
        SchedulingSettings,
    )

    Executor.SLEEPING_TIME = 0  # it waits as long before each job, for file systems that keep times to the second
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=max(len(paths), 1)),  # a choice for all jobs, not one before each
            config_settings=ConfigSettings(configfiles=[Path(file) for file in configfiles]),
            snakefile=study.HOME / "Snakefile",
        )
        dag = workflow.dag(DAGSettings(targets=set(paths), forceall=True))
        dag.execute_workflow(
            executor="touch",
            # what a job finished after its Snakemake was killed is marked as incomplete, and is whole all the same
            execution_settings=ExecutionSettings(ignore_incomplete=True),
            scheduling_settings=SchedulingSettings(scheduler="greedy"),
        )


def adopt(rows: list[Row], configfiles: list[str]) -> list[str]:
    """Move aside what a job would have to make again, touch what is fresh; returns what was done, in lines."""
    again = [row for row in rows if row.made and row.verdict.state != "fresh"]
    fresh = [row.path for row in rows if row.made and row.verdict.state == "fresh" and not _is_note(row.path)]
    lines = [f"{row.path}  is {row.verdict.state}  ({row.verdict.reason})" for row in again]
    if again:
        aside = move_aside([row.path for row in again])
        lines.append(f"{len(again):,} files are not fresh and were moved to {aside}/; the next run makes them again")
    if fresh:
        touch(fresh, configfiles)
    lines.append(f"{len(fresh):,} files are fresh; snakemake -n says what is left to do")
    return lines


def _is_note(path: str) -> bool:
    """A note on code is written by jobs, but is no output of one that Snakemake knows of."""
    return path.startswith("results/code/")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdq.workflow.adopt", description=__doc__.splitlines()[0])
    study.add_argument(parser)
    given = parser.parse_args(arguments)
    try:
        workflow = study.workflow(given.configfile)
        rows = verify(workflow, RESULTS)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(adopt(rows, given.configfile)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
