"""Adopt results that were copied here: ``python -m kdq.workflow.adopt [--configfile FILE ...]``, beside ``results/``.

Snakemake judges files by their times and by the records in ``.snakemake``; a copy may have neither. Files that verify
as fresh are recorded as made just now; the rest is moved out of ``results/``, so that the next run makes exactly these
again. Nothing is deleted.
"""

import argparse
import itertools
import os
import sys
from pathlib import Path

from kdq.errors import UserError
from kdq.provenance import ledger
from kdq.provenance.verify import study
from kdq.provenance.verify.results import Row, verify
from kdq.recipe.path import RESULTS
from kdq.stdout import print_lines

FOLDER = Path(RESULTS)


def move_aside(paths: list[str]) -> Path:
    """Move files below ``results/`` to the same place below a new folder and return that folder."""
    names = itertools.chain(["results.aside"], (f"results.aside.{count}" for count in itertools.count(2)))
    aside = next(path for path in map(Path, names) if not path.exists())
    for path in paths:
        place = aside / Path(path).relative_to(FOLDER)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.rename(path, place)
    return aside


def touch(paths: list[str], configfiles: list[str]) -> None:
    """Record these files as made just now, as ``snakemake --touch --forceall`` does.

    Snakemake's interface for Python is used since a command line can't hold the paths of a large grid.
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

    Executor.SLEEPING_TIME = 0  # before each job, for file systems with times in whole seconds
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=max(len(paths), 1)),  # schedules all jobs at once
            config_settings=ConfigSettings(configfiles=[Path(file) for file in configfiles]),
            snakefile=study.HOME / "Snakefile",
        )
        dag = workflow.dag(DAGSettings(targets=set(paths), forceall=True))
        dag.execute_workflow(
            executor="touch",
            # files of jobs that outlived a killed Snakemake are marked as incomplete but are whole
            execution_settings=ExecutionSettings(ignore_incomplete=True),
            scheduling_settings=SchedulingSettings(scheduler="greedy"),
        )


def adopt(rows: list[Row], configfiles: list[str]) -> list[str]:
    """Move aside what has to be made again and touch what is fresh; return a report in lines."""
    made, notes = [row for row in rows if row.made], f"{ledger.FOLDER}/"  # notes on code are no outputs of a rule
    again = [row for row in made if row.verdict.state != "fresh"]
    fresh = [row.path for row in made if row.verdict.state == "fresh" and not row.path.startswith(notes)]
    lines = [f"{row.path}  is {row.verdict.state}  ({row.verdict.reason})" for row in again]
    if again:
        aside = move_aside([row.path for row in again])
        lines.append(f"{len(again):,} files are not fresh and were moved to {aside}/; the next run makes them again")
    if fresh:
        touch(fresh, configfiles)
    lines.append(f"{len(fresh):,} files are fresh; snakemake -n lists what is left to do")
    return lines


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdq.workflow.adopt", description=__doc__.splitlines()[0])
    study.add_argument(parser)
    given = parser.parse_args(arguments)
    try:
        rows = verify(study.products(given.configfile), FOLDER)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_lines(adopt(rows, given.configfile))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
