"""A SLURM cluster of one node for tests: munged, slurmctld and slurmd in a temporary folder, stopped in every case.

Debian's packages `slurm-wlm` and `munge`, as root, on any machine: no systemd, no control groups, no accounting, ports
of its own. A requeued job begins after seconds (``cred_expire``), not after two minutes. The node claims four
processors, 16 GB and two GPUs, which are plain files; partitions are `cpu`, `gpu` and `urgent`, whose jobs preempt
those of the others, which are requeued.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "srun", "scontrol", "sinfo", "scancel")

CONFIGURATION = """
ClusterName=kdq
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=20
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=200000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdTimeout=20
KillWait=10
MinJobAge=3600
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=cpu Nodes=ALL Default=YES PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=gpu Nodes=ALL PriorityTier=1 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 PreemptMode=OFF MaxTime=INFINITE State=UP
"""


def unavailable() -> str:
    """Return why there can be no cluster on this machine, in a few words; empty if there can."""
    if os.geteuid():
        return "SLURM's daemons are started as root"
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    return f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge)" if missing else ""


class Cluster:
    """A running cluster; ``environment`` is what its commands need, ``variables`` what that has of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        self.variables = {"SLURM_CONF": f"{folder}/slurm.conf", "PATH": self._shims()}
        self.environment = {**os.environ, **self.variables}
        ports = iter(free_ports(2))
        text = CONFIGURATION.format(host=self.host, folder=folder, controller_port=next(ports), node_port=next(ports))
        (folder / "slurm.conf").write_text(text)
        for index in range(2):
            (folder / f"gpu{index}").touch()
        (folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File={folder}/gpu[0-1]\n")
        key = folder / "munge.key"
        key.write_bytes(secrets.token_bytes(64))
        key.chmod(0o400)

    def _shims(self) -> str:
        """Return a PATH whose srun uses this cluster even without SLURM's variables in the environment."""
        shim = self.folder / "bin/srun"
        shim.parent.mkdir()
        shim.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun")} "$@"\n')
        shim.chmod(0o755)
        return f"{shim.parent}:{os.environ['PATH']}"

    def start(self) -> None:
        munge = ("munged", "--force", f"--key-file={self.folder}/munge.key", f"--socket={self.folder}/munge.socket")
        files = {"pid-file": "munged.pid", "log-file": "munged.log", "seed-file": "munge.seed"}
        self.run(*munge, *(f"--{option}={self.folder}/{name}" for option, name in files.items()))
        self.start_controller()
        self.start_node()

    def start_controller(self) -> None:
        self.run("slurmctld")

    def start_node(self) -> None:
        self.run("slurmd")
        self.wait_for(lambda: self.run("sinfo", "--noheader", "--format=%T").strip() in ("idle", "mixed", "allocated"))

    def stop(self) -> None:
        """End all jobs and daemons."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.run("scancel", "--user=root", timeout=20)
            self.wait_for(lambda: not self.run("squeue", "--noheader"), seconds=20)
        for daemon in ("slurmd", "slurmctld", "munged"):
            self.end(daemon, signal.SIGTERM)

    def end(self, daemon: str, number: signal.Signals) -> None:
        """Send a daemon a signal and wait until it is gone; SIGKILL after ten seconds."""
        with contextlib.suppress(FileNotFoundError, ValueError, ProcessLookupError):
            process = int((self.folder / f"{daemon}.pid").read_text())
            for attempt in range(200):
                os.kill(process, number if attempt == 0 else signal.SIGKILL if attempt == 100 else 0)
                time.sleep(0.1)

    def run(self, *command: str, timeout: float = 60) -> str:
        """Return the output of a command; raise CalledProcessError with its error."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        return done.stdout

    def wait_for(self, condition, seconds: float = 60) -> None:
        """Wait until a condition holds, or raise TimeoutExpired with the end of the daemons' logs."""
        latest = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > latest:
                logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("slurm*.log"))
                raise subprocess.TimeoutExpired(f"waiting for the cluster; its logs end with:\n{logs}", seconds)
            time.sleep(0.1)

    def cancel(self, number: str) -> None:
        self.run("scancel", number)

    def stop_job(self, number: str) -> None:
        """SIGTERM to a job, as at its time limit."""
        self.run("scancel", "--signal=TERM", number)

    def requeue(self, number: str) -> None:
        self.run("scontrol", "requeue", number)

    def preempt(self, number: str) -> None:
        """An urgent job that takes the whole node."""
        self.run("sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1")

    def node_down_and_back(self, number: str) -> None:
        """The node fails under a job, and comes back."""
        self.run("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=test")
        self.wait_for(lambda: number not in self.jobs())
        self.run("scontrol", "update", f"NodeName={self.host}", "State=RESUME")

    def restart_controller(self, number: str) -> None:
        """The controller is killed, and started again."""
        self.end("slurmctld", signal.SIGKILL)
        self.start_controller()

    def lose_jobs(self, number: str) -> None:
        """The controller is killed before it has written its jobs down, and started again."""
        self.end("slurmctld", signal.SIGKILL)
        for file in self.folder.glob("state/job_state*"):
            file.unlink()
        self.start_controller()

    def state(self) -> str:
        """Return nodes and jobs in a line, and the end of the daemons' logs."""
        lines = ""
        with contextlib.suppress(subprocess.SubprocessError):  # if the controller does not answer
            lines += self.run("sinfo", "--noheader", "--format=node %T (%E)")
            lines += self.run("squeue", "--noheader", "--states=all", "--format=job %i %T (%r), begins %S")
        lines += "\n".join(path.read_text()[-1500:] for path in sorted(self.folder.glob("slurm*.log")))
        return " | ".join(lines.splitlines())

    def jobs(self, state: str = "RUNNING") -> dict[str, str]:
        """Return the jobs in a state: comment (rule and wildcards) by job number."""
        lines = self.run("squeue", "--noheader", f"--states={state}", "--format=%i|%k").splitlines()
        return dict(line.split("|", 1) for line in lines)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def cluster():
    """Start a cluster; stop and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kdq-slurm-"))
    started = Cluster(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)
