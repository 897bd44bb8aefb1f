"""The outputs of a job that fails: Snakemake removes them before it starts, and what was computed before is lost.

A job may fail since a wrong file lies in its input's place; that put right, the old outputs may be what they should be.
So they are renamed, which keeps their times, and named back if the job fails. Snakemake's flag ``update`` is no way: it
restores a copy, which is then newer than its inputs. A failed job's record is removed, so that headers judge what was
named back (:mod:`kdq.workflow.lost_records`); what they can't judge is not kept. If Snakemake is killed during the job,
the outputs stay aside until a later job for the same files ends.
"""

import contextlib
import os
from collections.abc import Callable

from kdq.provenance.verify.results import KEPT_PREFIX

METHODS = ("remove_existing_output", "postprocess")


def keep_outputs(job: type | None, is_judged: Callable[[list[str]], bool], puts_back: bool) -> None:
    """Keep the outputs of jobs of Snakemake's class ``job`` until they end; no-op if it lacks one of ``METHODS``.

    ``is_judged`` returns whether outputs can be judged without a record. Only if ``puts_back`` are they named back: a
    node of a cluster leaves that to the main process, which removes the outputs of a failed job once more.
    """
    if not all(hasattr(job, name) for name in METHODS):
        return
    remove, postprocess = (getattr(job, name) for name in METHODS)

    async def keep_and_remove(self, *arguments, **options):
        outputs = list(map(str, self.output))
        if is_judged(outputs):
            set_aside(outputs)
        await remove(self, *arguments, **options)

    async def postprocess_and_put_back(self, *arguments, error=False, **options):
        outputs = list(map(str, self.output))
        await postprocess(self, *arguments, error=error, **options)
        if not error:
            for file in outputs:
                with contextlib.suppress(OSError):
                    os.unlink(_aside(file))
        elif puts_back and put_back(outputs):
            self.dag.workflow.persistence.cleanup(self)  # it was recorded as if this job had made them

    job.remove_existing_output, job.postprocess = keep_and_remove, postprocess_and_put_back


def set_aside(files: list[str]) -> None:
    """Rename ``files`` unless they are what a killed job left, whose predecessors were set aside before."""
    there = [file for file in files if os.path.isfile(file)]
    if len(there) < len(files) and any(os.path.lexists(_aside(file)) for file in files):
        return
    for file in there:
        with contextlib.suppress(OSError):  # then it is removed, or can't be, as without this
            os.replace(file, _aside(file))


def put_back(files: list[str]) -> list[str]:
    """Name ``files`` back that were set aside, unless there are new ones; return these."""
    back = [file for file in files if os.path.lexists(_aside(file)) and not os.path.lexists(file)]
    for file in back:
        os.rename(_aside(file), file)
    return back


def _aside(file: str) -> str:
    folder, name = os.path.split(file)
    return os.path.join(folder, KEPT_PREFIX + name)
