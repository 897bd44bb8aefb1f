"""The job of a student, which may train other students of the same teacher and seed side by side with its own.

Students of one seed see the same batches, and the forward pass of the teacher, which is the larger network, takes most
of a step: side by side it is computed once for all of them. Each student is trained by the same loop as alone. The job
leaves the checkpoints of the other students at their last epoch; their own jobs, which Snakemake starts as usual,
resume from there and have nothing left to train. So every student keeps its job, its log and its files, and a student
that fails fails in its own job. A lock on the student's folder marks that a job is training it.
"""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from kdq.data.prepared import read
from kdq.distill import cached_logits
from kdq.distill.method import Method
from kdq.distill.stage import distill
from kdq.distill.teacher import CachedTeacher, SharedTeacher, Teacher
from kdq.distill.turns import Turns
from kdq.errors import UserError
from kdq.models import file as model_file
from kdq.models.libraries import made_with
from kdq.models.model import Model
from kdq.provenance import describe as provenance
from kdq.recipe.implementation import declared_class
from kdq.train import checkpoint
from kdq.train.device import compute_dtype, device_name, prepare
from kdq.train.precision import log_other_precisions, precision_name


@contextlib.contextmanager
def claims() -> Iterator[Callable[..., bool]]:
    """Yield ``claim(folder, wait=False)``, which locks a folder until the block ends and returns whether it could.

    The lock is on the folder itself, since a lock file would be left among the results.
    """
    with contextlib.ExitStack() as held:

        def claim(folder: Path, wait: bool = False) -> bool:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except OSError:  # held by another process, or the file system has no locks
                os.close(descriptor)
                return False
            held.callback(os.close, descriptor)
            return True

        yield claim


def shares(job: dict) -> bool:
    """Return whether the job's student can share its teacher's forward pass.

    Not if the teacher is trained, if the method changes the images or can't be imported, which its job reports.
    """
    try:
        method = declared_class(job["module"], Method)
    except Exception:
        return False
    return not method.teacher_learns and method.view is Method.view


def reads_features(job: dict) -> bool:
    """Return whether the method of a job reads any of the teacher's features."""
    method = declared_class(job["module"], Method)
    return bool(method.features) or method.taps is not Method.taps


class Students:
    """The students of one teacher and seed: what they have in common, and the training of each.

    ``inputs`` are their input files by role: ``data``, ``parent`` and possibly ``views``, the teacher's cached logits.
    ``folder`` is the teacher's; a student has the sub-folder that its job names as ``stage``. ``code`` is the
    fingerprint of the job that runs; ``resident`` is as in :func:`kdq.train.stage.train_task`.
    """

    def __init__(
        self, inputs: dict[str, str], folder: Path, code: str, *, seed: int, threads: int, resident: str = "auto"
    ):
        self.inputs, self.folder, self.seed, self.threads, self.resident = inputs, folder, seed, threads, resident
        self.device = prepare(threads)
        self._made_by = provenance.describe(code, inputs, threads=threads, device=device_name(self.device))
        self.prepared, self.parent = read(inputs["data"]), model_file.load(inputs["parent"])

    @contextlib.contextmanager
    def trained(self, job: dict, siblings: dict | None, is_planned: Callable[[dict], bool], log) -> Iterator[Model]:
        """Train the student of ``job`` and yield it; when the block has saved it, remove its checkpoint.

        ``siblings`` are the ``jobs`` of other students that may be trained side by side with it, so that there are
        ``students`` in all; taken are those whose code ``is_planned`` confirms and that no other job trains.
        """
        folder = self.folder / job["stage"]
        with claims() as claim:
            claimed = claim(folder)
            if siblings and not (claimed and self._is_trained(job)):
                self._train_siblings([job] if claimed and shares(job) else [], siblings, is_planned, log)
            if not claimed:
                log("another job trains this student side by side with its own; waiting for it")
                claim(folder, wait=True)
            yield self._train(job, log, self._cached_teacher(job))
            self._checkpoint(job).unlink(missing_ok=True)

    def _train_siblings(self, group: list[dict], siblings: dict, is_planned, log) -> None:
        with claims() as claim:
            for job in siblings["jobs"]:
                if len(group) < siblings["students"] and shares(job) and is_planned(job) and not self._is_trained(job):
                    folder = self.folder / job["stage"]
                    folder.mkdir(exist_ok=True)
                    if not (folder / "model.safetensors").exists() and claim(folder):
                        group = [*group, job]
            if len(group) > 1:
                self._train_side_by_side(group, log)

    def _train_side_by_side(self, group: list[dict], log) -> None:
        """Train the students of ``group`` in threads; an exception that ends one is logged and left to its own job."""
        names = [job["stage"] for job in group]
        log(f"{len(group)} students side by side: {', '.join(names)}")
        turns = Turns()
        taps = getattr(self.parent, "taps", ()) if any(map(reads_features, group)) else ()
        teacher = SharedTeacher(self.parent, self.device, taps, turns.pass_turn)

        def start(job: dict) -> Model:
            return self._train(job, lambda line: log(f"{job['stage']}: {line}"), teacher)

        for name, end in zip(names, turns.run([partial(start, job) for job in group]), strict=True):
            if isinstance(end, BaseException):
                log(f"{name}: {type(end).__name__}: {end}")

    def _train(self, job: dict, log, teacher: Teacher | None) -> Model:
        """Train the student of ``job``; whatever ends it, its checkpoint is that of its last epoch."""
        log_other_precisions(self.inputs, self.made_by(job)["precision"], log)
        places = {"checkpoint": self._checkpoint(job), "identity": self._identity(job), "log": log}
        settings = {"seed": self.seed, "threads": self.threads, "teacher": teacher, "resident": self.resident}
        return distill(self.prepared, self.parent, job["module"], job["keys"], **settings, **places)

    def _checkpoint(self, job: dict) -> Path:
        return self.folder / job["stage"] / "checkpoint.pt"

    def made_by(self, job: dict) -> dict:
        """Return the provenance of the student of ``job``."""
        precision = precision_name(job["keys"]["precision"], self.device)
        return {**self._made_by, **made_with(job["keys"]), "code": job["code"], "precision": precision}

    def _identity(self, job: dict) -> str:
        return provenance.identity(keys=job["keys"], seed=self.seed, made_by=self.made_by(job))

    def _is_trained(self, job: dict) -> bool:
        try:
            state = checkpoint.load(self._checkpoint(job), self._identity(job), lambda line: None)
        except UserError:
            return True  # a folder in its place: the student's own job says so
        return state is not None and state["epoch"] == job["keys"]["epochs"]

    def _cached_teacher(self, job: dict) -> CachedTeacher | None:
        if "views" not in self.inputs:
            return None
        keys, made_from = job["keys"], self._made_by["inputs"]
        made_for = {"crop": keys["crop"], "flip": keys["flip"], "data": made_from["data"]}
        made_for |= {"teacher": made_from["parent"], "precision": str(compute_dtype(keys["precision"], self.device))}
        logits = cached_logits.read(self.inputs["views"], self.prepared, **made_for)
        return CachedTeacher(self.parent, self.device, logits)
