"""Verify results, wherever they were copied from: ``python -m kdq.provenance.verify [RESULTS] [--configfile FILE ...]``.

Every file is held against what it and its descendants say of it, and against the code and configuration as they are
now. One line a file, the fresh ones first, then one for all. Exits with 0 where all are fresh.
"""

import argparse
import sys
from pathlib import Path

from kdq.errors import UserError, one_line
from kdq.provenance.verify import study
from kdq.provenance.verify.results import Row, summary, verify


def line(row: Row) -> str:
    """A file's line of the table; its name may come from anywhere."""
    reason = f"  ({row.verdict.reason})" if row.verdict.reason else ""
    return one_line(f"{row.verdict.state:<10}  {row.path}{reason}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdq.provenance.verify", description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", default="results", type=Path, help="the folder, by default results")
    parser.add_argument("--quiet", action="store_true", help="leave out the fresh ones")
    study.add_argument(parser)
    given = parser.parse_args(arguments)
    try:
        workflow = study.workflow(given.configfile)
        rows = verify(workflow, given.results)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shown = [row for row in rows if row.verdict.state != "fresh" or not given.quiet]
    sys.stdout.writelines(f"{line(row)}\n" for row in shown)
    print(summary(rows, workflow))
    return int(any(row.verdict.state != "fresh" for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
