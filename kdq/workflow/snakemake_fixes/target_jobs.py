"""Snakemake on a node of a cluster misreads the jobs that its command line names.

Snakemake quotes a wildcard with a comma there, and then splits at every comma all the same (issue 2366, open in 9.27):
for the stage ``hard,epochs=1`` the node would train ``hard``.
"""

import re
import sys
from itertools import takewhile

from kdq.errors import UserError
from kdq.workflow.settings import or_stop
from kdq.workflow.snakemake_fixes.parts import part

OPTION = "--target-jobs"
PAIR = re.compile(r'(\w+)=(?:"([^"]*)"|([^,]*))(?:,|$)')


def reread_target_jobs(workflow) -> None:
    """Replace the jobs that Snakemake read from its command line, just before it plans: only then they are set."""
    prepare_dag = getattr(workflow, "_prepare_dag", None)
    target = part("snakemake_interface_executor_plugins.utils", "TargetSpec")
    if prepare_dag is None or target is None:
        sys.stderr.write("warning: this Snakemake is unknown: a job whose recipe has commas may make another cell\n")
        return

    def prepare(*arguments, **options):
        asked = or_stop(target_jobs, sys.argv, lambda rule: workflow.get_rule(rule).wildcard_names or set())
        workflow.dag_settings.target_jobs = [target(rule, wildcards) for rule, wildcards in asked]
        prepare_dag(*arguments, **options)

    workflow._prepare_dag = prepare


def target_jobs(arguments: list[str], names_of) -> list[tuple[str, dict[str, str]]]:
    """Return rule and wildcards of each job that ``arguments``, a command line of Snakemake, names.

    ``names_of(rule)`` is the set of a rule's wildcards. Raise UserError if a job has others: its quotes are gone.

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
