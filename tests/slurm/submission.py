"""The real workflow, run on the cluster with the users' profile."""

import subprocess
import time
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.workflow.study import Workflow, changed_default

SMALL = {"recipes": ["hard,epochs=2", "hard,epochs=2/{rtn,gpfq},bits=3", "hard,epochs=2/kd,epochs=2"]}
SECONDS = 1800
# as the profile, but with status checks after a second: the jobs of these tests are short
SOON = ("--slurm-init-seconds-before-status-checks", "1", "--latency-wait", "5")


class Submitted(Workflow):
    """A copy of the workflow in ``folder`` whose jobs SLURM runs."""

    def __init__(self, folder: Path, cluster: Cluster):
        super().__init__(folder)
        self.cluster = cluster
        self.environment = {**cluster.environment, "OMP_NUM_THREADS": "1"}
        self.environment.pop("PYTHONPATH", None)

    def configure(self, changes: dict) -> None:
        """Write the config of the study, without the shorter trainings of the workflow's tests."""
        self.overlay.write_text(changed_default(changes))

    def start(self, *arguments) -> subprocess.Popen:
        words = self.command("--workflow-profile", "profiles/slurm", *SOON, *arguments)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(words, cwd=self.folder, env=self.environment, **pipes)

    def running(self, rule: str, run: subprocess.Popen) -> str:
        """Wait until a job of the rule computes, so that its log has a line; return its number."""
        latest = time.monotonic() + SECONDS
        logs = self.folder / "logs" / rule
        while time.monotonic() < latest and run.poll() is None:
            begun = any(path.stat().st_size for path in logs.rglob("*.log"))
            numbers = [number for number, comment in self.cluster.jobs().items() if f"rule_{rule}_" in comment]
            if begun and numbers:
                return numbers[0]
            time.sleep(0.2)
        raise AssertionError(f"no job of {rule} ran: {end(run)}" if run.poll() is not None else f"no job of {rule} ran")

    def log(self, rule: str) -> str:
        return "\n".join(path.read_text() for path in (self.folder / "logs" / rule).rglob("*.log"))


def end(run: subprocess.Popen) -> str:
    """Return the output of a run until its end."""
    return run.communicate(timeout=SECONDS)[0]
