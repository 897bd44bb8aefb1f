"""The faults: each disturbs a run of the study at a random moment, and mends what its user would have to mend.

A fault is a context: it begins with the finished study, less what the disturbed run is to make, and gives what that run
said; inside it the study is started again with the documented command. Everything random comes from ``random``.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from random import Random

from tests.faults.disturbed import (
    DATA,
    QUANTIZED,
    STUDENT,
    TEACHER,
    VIEWS,
    Study,
    end,
    processes_of,
    send,
)
from tests.slurm.cluster import Cluster, cluster

SIGNALS = (signal.SIGKILL, signal.SIGTERM)
EVALUATION = ("metrics.json", "predictions.safetensors")
# rule, cell, file that tells how long its job takes, and what is taken away for the job to run again
JOBS = {
    "training": ("distill", STUDENT, f"{STUDENT}/model.safetensors", [STUDENT]),
    "root": ("root", TEACHER, f"{TEACHER}/model.safetensors", [TEACHER]),
    "caching": ("teacher_cache", VIEWS.removesuffix(".safetensors"), VIEWS, [VIEWS, STUDENT]),
    "quantization": ("quantize", QUANTIZED, f"{QUANTIZED}/model.safetensors", [QUANTIZED]),
    "evaluation": ("evaluate", STUDENT, f"{STUDENT}/metrics.json", [f"{STUDENT}/{name}" for name in EVALUATION]),
}


def kill_job(job: str, number: signal.Signals):
    """Kill, or stop, the process of a job; Snakemake goes on, and says that the job failed."""

    @contextlib.contextmanager
    def fault(study: Study, random: Random):
        rule, cell, output, lost = JOBS[job]
        study.restore(*lost)
        run = study.start()
        process = study.job(cell, rule, run)
        time.sleep(random.uniform(0, study.seconds_of(output)))
        send(process, number)
        yield end(run)

    return fault


def kill_snakemake(number: signal.Signals):
    """Kill, or stop, Snakemake itself while it plans, while jobs run, or at its end."""

    @contextlib.contextmanager
    def fault(study: Study, random: Random):
        study.restore(*random.choice([[TEACHER], [STUDENT], [QUANTIZED]]))
        run = study.start()
        time.sleep(random.uniform(0, study.seconds))
        send(run.pid, number)
        yield end(run)

    return fault


@contextlib.contextmanager
def kill_launcher(study: Study, random: Random):
    """Kill the process that jobs are forked from."""
    study.restore(STUDENT)
    run = study.start()
    process = study.job(STUDENT, "distill", run)
    time.sleep(random.uniform(0, study.seconds_of(f"{STUDENT}/model.safetensors")))
    if process is not None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            send(int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    yield end(run)


# what is damaged, and what is taken away for a job to read it
READ = {
    DATA: [QUANTIZED],
    f"{TEACHER}/model.safetensors": [STUDENT],
    f"{STUDENT}/model.safetensors": [QUANTIZED],
    f"{STUDENT}/predictions.safetensors": [f"{QUANTIZED}/{name}" for name in EVALUATION],
    f"{STUDENT}/metrics.json": ["results/studies/overlay/table.csv"],
    VIEWS: [f"{STUDENT}/model.safetensors"],
}


def spoil(file: Path, random: Random) -> None:
    """Cut a file short, empty it, fill its end with zeros, or turn one bit."""
    content = bytearray(file.read_bytes())
    how = random.choice(["cut", "empty", "zeros", "bit"])
    at = random.randrange(len(content))
    if how == "bit":
        content[at] ^= 1 << random.randrange(8)
    elif how == "zeros":
        content[at:] = bytes(len(content) - at)
    else:
        del content[at if how == "cut" else 0 :]
    file.write_bytes(content)


@contextlib.contextmanager
def damage(study: Study, random: Random):
    """Damage a finished file, its time kept or not; the file that an error names is removed, as the error says."""
    path = random.choice(sorted(READ))
    study.restore(*READ[path])
    file = study.folder / path
    times = file.stat()
    spoil(file, random)
    if random.random() < 0.5:
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    yield remove_named(study, end(study.start()))


@contextlib.contextmanager
def damage_checkpoint(study: Study, random: Random):
    """Kill a training after an epoch, and damage its checkpoint."""
    study.restore(STUDENT)
    run, checkpoint = study.start(), study.folder / STUDENT / "checkpoint.pt"
    process = study.job(STUDENT, "distill", run)
    while run.poll() is None and not checkpoint.is_file():
        time.sleep(0.005)
    send(process, signal.SIGKILL)
    said = end(run)
    if checkpoint.is_file():
        spoil(checkpoint, random)
    yield said


@contextlib.contextmanager
def power_cut(study: Study, random: Random):
    """Everything ends at once, and files that were just renamed, and Snakemake's records, lack what was not synced.

    Afterwards what errors name is removed, and `make adopt` looks for what nobody read, as docs/slurm.md says.
    """
    study.restore(TEACHER)
    before = time.time()
    run = study.start()
    time.sleep(random.uniform(0.3, 1) * study.seconds)
    for process in (run.pid, *processes_of(study.folder)):
        send(process, signal.SIGKILL)
    end(run)
    for part in ("results", ".snakemake/metadata", ".snakemake/incomplete"):
        for file in (study.folder / part).rglob("*"):
            if file.is_file() and file.stat().st_mtime >= before and file.stat().st_size and random.random() < 0.3:
                os.truncate(file, random.choice([0, random.randrange(file.stat().st_size)]))
    said = remove_named(study, end(study.start()))
    yield said + study.adopt()


def remove_named(study: Study, said: str) -> str:
    """Remove the files that errors name, as they say, run after run, until none is named."""
    everything = said
    for _ in range(5):
        named = set(re.findall(r"error: (results/[^\s:]+)", said))
        there = [study.folder / path for path in named if (study.folder / path).is_file()]
        if not there:
            break
        for file in there:
            file.unlink()
        said = end(study.start())
        everything += said
    return everything


# for a part of the working folder: what is taken away, and the pages that the run then writes there at most
WRITES = {
    "results": [
        ([TEACHER], 450),
        ([STUDENT], 400),
        ([VIEWS, f"{STUDENT}/model.safetensors"], 450),
        ([QUANTIZED], 12),
        ([f"{STUDENT}/{name}" for name in EVALUATION], 4),
        (["results/studies/overlay/table.csv"], 4),
    ],
    "logs": [([TEACHER, "logs/distill", "logs/root"], 5)],
    ".snakemake": [([TEACHER], 4)],
}


def disk_full(part: str):
    """A file system of its own for a part of the working folder, with too little space for the run."""

    @contextlib.contextmanager
    def fault(study: Study, random: Random):
        lost, most = random.choice(WRITES[part])
        study.restore(*lost)
        place = study.folder / part
        with mounted(place, "-t", "tmpfs", "-o", "size=1g", "tmpfs"):
            shutil.copytree(place.parent / f"{place.name}.aside", place, dirs_exist_ok=True)
            system = os.statvfs(place)
            pages = system.f_blocks - system.f_bfree + random.randrange(most)
            subprocess.run(["mount", "-o", f"remount,size={pages * system.f_frsize}", place], check=True)
            said = end(study.start())
            subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
            yield said

    return fault


def read_only(part: str):
    """A part of the working folder can't be written to."""

    @contextlib.contextmanager
    def fault(study: Study, random: Random):
        study.restore(random.choice([TEACHER, STUDENT, QUANTIZED]))
        place = study.folder / part
        with mounted(place, "--bind", place.parent / f"{place.name}.aside"):
            subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
            said = end(study.start())
            subprocess.run(["mount", "-o", "remount,rw,bind", place], check=True)
            yield said

    return fault


@contextlib.contextmanager
def mounted(place: Path, *arguments):
    """Mount over a folder, whose content lies beside it, under ``.aside``, meanwhile; it is brought back at the end."""
    aside = place.with_name(f"{place.name}.aside")
    place.rename(aside)
    place.mkdir()
    try:
        subprocess.run(["mount", *arguments, place], check=True, capture_output=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", place], check=False, capture_output=True)
        shutil.rmtree(aside)


@contextlib.contextmanager
def two_at_once(study: Study, random: Random):
    """Two Snakemakes in one folder."""
    study.restore(TEACHER)
    first = study.start()
    time.sleep(random.uniform(0, study.seconds))
    second = study.start()
    yield end(second) + end(first)


@contextlib.contextmanager
def clock_set_back(study: Study, random: Random):
    """Some files are from tomorrow, so that what is made from them now is older than they are."""
    study.restore(random.choice([TEACHER, STUDENT, QUANTIZED]))
    tomorrow = time.time() + 86_400
    for path in sorted((study.folder / "results").rglob("*")):
        if path.is_file() and random.random() < 0.5:
            os.utime(path, (tomorrow, tomorrow))
    yield end(study.start())


@contextlib.contextmanager
def edit(study: Study, random: Random):
    """A method's file is edited while its job runs, and edited back afterwards."""
    study.restore(STUDENT)
    run = study.start()
    study.job(STUDENT, "distill", run)
    time.sleep(random.uniform(0, study.seconds_of(f"{STUDENT}/model.safetensors")))
    with study.workflow.edited("kdq/distill/methods/kd.py", lambda text: f"{text}\n\nEDITED = 1\n"):
        said = end(run)
        if f"{STUDENT}/model.safetensors" not in study.workflow.plan(*study.targets):
            said += "\nlost: what was made with the code before the edit is called fresh"
    yield said


@contextlib.contextmanager
def outlived(study: Study, random: Random):
    """Jobs of a cluster end after their Snakemake was killed: whole, and marked as begun; `make adopt` takes them."""
    study.restore()
    for path in random.sample(sorted(READ), 3):
        study.mark_incomplete(path)
    said = study.adopt()
    if left := study.workflow.plan(*study.targets):
        said += f"\nlost: made again, although it was whole: {', '.join(sorted(left))}"
    yield said


def by_slurm(disturb):
    """``disturb(cluster, number of the job)`` while a student trains on a SLURM of one node; Snakemake goes on."""

    @contextlib.contextmanager
    def fault(study: Study, random: Random):
        study.restore(STUDENT)
        with cluster() as slurm:
            run = study.submit(slurm)
            study.job(STUDENT, "distill", run)
            numbers = [number for number, comment in slurm.jobs().items() if "rule_distill_" in comment]
            time.sleep(random.uniform(0, study.seconds_of(f"{STUDENT}/model.safetensors")))
            with contextlib.suppress(subprocess.CalledProcessError):  # the job has ended
                for number in numbers:
                    disturb(slurm, number)
            try:
                said = end(run)
            except subprocess.TimeoutExpired:
                run.kill()
                said = f"{end(run)}\nlost: Snakemake still waited; {slurm.state()}"
        yield said if run.returncode == 0 else f"{said}\nlost: the run on SLURM itself did not come through"

    return fault


KINDS = {
    **{f"{number.name} of a {job}": kill_job(job, number) for job in JOBS for number in SIGNALS},
    **{f"{number.name} of Snakemake": kill_snakemake(number) for number in SIGNALS},
    "SIGKILL of the launcher": kill_launcher,
    "damaged file": damage,
    "damaged checkpoint": damage_checkpoint,
    "power cut": power_cut,
    **{f"disk full: {part}": disk_full(part) for part in ("results", "logs", ".snakemake")},
    **{f"read-only: {part}": read_only(part) for part in ("results", "logs")},
    "two Snakemakes": two_at_once,
    "clock set back": clock_set_back,
    "edit during a job": edit,
    "jobs outlive Snakemake": outlived,
    "SLURM: job cancelled": by_slurm(Cluster.cancel),
    "SLURM: job stopped": by_slurm(Cluster.stop_job),
    "SLURM: job requeued": by_slurm(Cluster.requeue),
    "SLURM: job preempted": by_slurm(Cluster.preempt),
    "SLURM: node down": by_slurm(Cluster.node_down_and_back),
    "SLURM: controller killed": by_slurm(Cluster.restart_controller),
    "SLURM: jobs forgotten": by_slurm(Cluster.lose_jobs),
}
