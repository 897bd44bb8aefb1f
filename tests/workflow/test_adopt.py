"""Results that were copied: what verifies as fresh is not made again, what does not is, and nothing else."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.study import PARTS, Workflow
from tests.workflow.test_reruns import OVERVIEW, appended, evaluated, figures, made, quantized


def copied(finished: Workflow, folder: Path, *, metadata: bool) -> Workflow:
    """The workflow and its results as a copy leaves them: times in no order, with or without Snakemake's records."""
    workflow = Workflow(folder)
    for part in ("results", ".snakemake") if metadata else ("results",):
        shutil.copytree(finished.folder / part, folder / part)
    for left in folder.glob("results/digits/seed=0/teacher/match*"):  # by another test, of a method of its own
        shutil.rmtree(left)
    times = random.Random(0)
    for path in [*folder.glob("results/**/*"), *(folder / part for part in PARTS)]:
        os.utime(path, (moment := times.uniform(1e9, 1.7e9), moment))
    return workflow


def command(workflow: Workflow, module: str, *arguments: str) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", module, *arguments, "--configfile", str(workflow.overlay)]
    return subprocess.run(words, cwd=workflow.folder, env=workflow.environment, capture_output=True, text=True)


def not_fresh(done: subprocess.CompletedProcess) -> set[str]:
    return {line.split()[1] for line in done.stdout.splitlines()[:-1] if not line.startswith("fresh ")}


@pytest.mark.parametrize("metadata", [True, False], ids=["with .snakemake", "without .snakemake"])
def test_a_copy_that_is_fresh_is_not_made_again(finished, tmp_path, metadata):
    workflow = copied(finished, tmp_path, metadata=metadata)
    done = command(workflow, "kdq.provenance.verify")
    assert (done.returncode, not_fresh(done)) == (0, set()), done.stdout[-2000:] + done.stderr
    if not metadata:
        assert workflow.plan() != set()  # to Snakemake by itself the times matter
    adopted = command(workflow, "kdq.workflow.adopt")
    assert adopted.returncode == 0, adopted.stderr
    assert not list(tmp_path.glob("results.aside*"))
    assert workflow.plan() == set()
    with workflow.edited("kdq/quantize/methods/gpfq.py", appended("EDITED = 1")):
        assert workflow.plan() == made(others=quantized(quantizers=["gpfq"])) | OVERVIEW


def test_of_a_copy_exactly_what_is_not_fresh_is_made_again(finished, tmp_path):
    workflow = copied(finished, tmp_path, metadata=False)
    method = tmp_path / "kdq/distill/methods/kd.py"
    method.write_text(method.read_text() + "\nEDITED = 1\n")
    (corrupt,) = tmp_path.glob("results/digits/seed=0/hard/gpfq,bits=3/predictions.safetensors")
    corrupt.write_bytes(corrupt.read_bytes()[:-1])
    expected = made(["teacher/kd"], quantized(["teacher/kd"])) | evaluated(["hard/gpfq,bits=3"])
    expected |= OVERVIEW | figures("training_curves")
    done = command(workflow, "kdq.provenance.verify")
    assert (done.returncode, not_fresh(done)) == (1, expected)
    adopted = command(workflow, "kdq.workflow.adopt")
    assert adopted.returncode == 0, adopted.stderr
    aside = tmp_path / "results.aside"
    assert expected == {f"results/{path.relative_to(aside)}" for path in aside.rglob("*") if path.is_file()}
    assert all(f"{path}  is " in adopted.stdout for path in expected)
    assert workflow.plan() == expected
