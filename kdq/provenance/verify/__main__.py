"""Verify results wherever they lie: ``python -m kdq.provenance.verify [RESULTS] [--configfile FILE ...]``.

Compare every file with its header, with what was made from it, and with the code and configuration as they are now.
Print one line per file, the fresh ones first, then a summary. Exit with 0 if all are fresh. Tables and figures of
other studies are skipped.
"""

import argparse
import sys
from pathlib import Path

from kdq.errors import UserError, one_line
from kdq.provenance.verify import study
from kdq.provenance.verify.judge import SKIPPED
from kdq.provenance.verify.results import Row, mixed, summary, verify
from kdq.stdout import print_lines


def line(row: Row) -> str:
    """Return the line of a file, whose name may hold any character."""
    reason = f"  ({row.verdict.reason})" if row.verdict.reason else ""
    return one_line(f"{row.verdict.state:<10}  {row.path}{reason}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m kdq.provenance.verify", description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="?", default="results", type=Path, help="the folder, by default results")
    parser.add_argument("--quiet", action="store_true", help="leave out the fresh ones")
    study.add_argument(parser)
    given = parser.parse_args(arguments)
    try:
        products = study.products(given.configfile)
        rows = verify(products, given.results)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    judged = [row for row in rows if row.verdict.state != SKIPPED]
    shown = [row for row in judged if row.verdict.state != "fresh" or not given.quiet]
    print_lines([*map(line, shown), *map(one_line, mixed(rows, products)), summary(rows, products)])
    return int(any(row.verdict.state != "fresh" for row in judged))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
