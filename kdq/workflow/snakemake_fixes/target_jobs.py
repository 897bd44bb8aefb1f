"""The jobs that a Snakemake on a node of a cluster is told to run, read from its command line as they were meant.

Snakemake puts a wildcard with a comma in quotes there, and then splits at every comma all the same (issue 2366, open
in 9.27): for the stage ``hard,epochs=1`` the node would train ``hard``.
"""

import re
from itertools import takewhile

from kdq.errors import UserError

OPTION = "--target-jobs"
PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|([^,]*))(?:,|$)')


def target_jobs(arguments: list[str], names_of) -> list[tuple[str, dict[str, str]]]:
    """Rule and wildcards of each job that ``arguments``, a command line of Snakemake, names.

    ``names_of(rule)`` is the set of a rule's wildcards. Raises UserError for a job with others: its quotes are gone.

    >>> words = ["--cores", "1", "--target-jobs", 'evaluate:seed=0,stage="kd,temperature=2"', "--force"]
    >>> target_jobs(words, {"evaluate": {"seed", "stage"}}.get)
    [('evaluate', {'seed': '0', 'stage': 'kd,temperature=2'})]
    """
    if OPTION not in arguments:
        return []
    words = arguments[arguments.index(OPTION) + 1 :]
    return [_target_job(word, names_of) for word in takewhile(lambda word: not word.startswith("--"), words)]


def _target_job(word: str, names_of) -> tuple[str, dict[str, str]]:
    rule, _, pairs = word.partition(":")
    names = [match[1] for match in PAIR.finditer(pairs)]
    if sorted(names) != sorted(names_of(rule)):
        raise UserError(
            f"{OPTION} {word}: the quotes around a recipe were lost on the way to this node; "
            "the profile needs the line slurm-pass-command-as-script: true"
        )
    return rule, {match[1]: match[2] or match[3] or "" for match in PAIR.finditer(pairs)}
