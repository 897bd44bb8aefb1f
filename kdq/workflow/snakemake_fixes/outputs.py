"""Two passes of Snakemake over the outputs of all jobs that take a seventh of planning.

It matches every input of every job against the outputs of all rules, although most jobs share their inputs; and it
sorts the absolute paths of all outputs, as objects, to find one that lies within another.
"""

import os.path


def cache_producers(output_index: type | None) -> None:
    """Remember the rules that make a file: an index's rules are fixed. No-op if Snakemake lacks the method."""
    match = getattr(output_index, "match_producers", None)

    def match_once(self, file: str) -> set:
        known = self.__dict__.setdefault("_kdq_producers", {})
        if file not in known:
            known[file] = frozenset(match(self, file))
        return set(known[file])

    if match is not None:
        output_index.match_producers = match_once


def skip_disjoint_directories(dag: type | None) -> None:
    """Check for outputs within others only if a folder above one is itself an output. No-op without the method."""
    check = getattr(dag, "check_directory_outputs", None)

    def check_if_needed(self) -> None:
        paths = {os.path.abspath(file) for job in self.jobs for file in job.output}
        folders: set[str] = set()
        for folder in map(os.path.dirname, paths):
            while folder not in folders:
                folders.add(folder)
                folder = os.path.dirname(folder)
        if not folders.isdisjoint(paths):
            check(self)

    if check is not None:
        dag.check_directory_outputs = check_if_needed
