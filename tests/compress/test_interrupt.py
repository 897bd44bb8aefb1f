"""An interrupt, or SIGTERM: Snakemake is not killed but awaited, so that it ends its jobs and its lock."""

import os
import signal
import subprocess
import sys
import time

import pytest

CHILD = """
import sys, time
print("started", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(1)  # longer than a quarter of a second, which subprocess.call grants
    print("ended", flush=True)
"""
PARENT = """
import sys
from kdq.workflow.compress import exit_code
from kdq.workflow.signals import raise_on_sigterm
raise_on_sigterm()
exit_code([sys.executable, "-c", sys.argv[1]], open(sys.argv[2], "w"))
"""


def _heeds_interrupts():
    """Undo what a shell gives a test run in the background: interrupts that are ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize(
    "stop",
    [lambda parent: os.killpg(parent, signal.SIGINT), lambda parent: os.kill(parent, signal.SIGTERM)],
    ids=["an interrupt from the terminal", "SIGTERM to the command alone"],
)
def test_snakemake_ends_by_itself(tmp_path, home, stop):
    output = tmp_path / "output"
    command = [sys.executable, "-c", PARENT, CHILD, str(output)]
    process = subprocess.Popen(
        command, cwd=home, start_new_session=True, stderr=subprocess.DEVNULL, preexec_fn=_heeds_interrupts
    )
    latest = time.monotonic() + 120
    while not (output.exists() and "started" in output.read_text()):
        assert process.poll() is None and time.monotonic() < latest
        time.sleep(0.05)
    stop(process.pid)
    assert process.wait(60) != 0
    assert output.read_text().split() == ["started", "ended"]
