"""A few of the faults in benchmarks/faults.py: nothing is lost, and no damaged file is used."""

import pytest

from tests.faults.disturbed import Study
from tests.faults.trial import run, unavailable

KINDS = (
    "SIGKILL of a training",
    "SIGTERM of a training",
    "SIGKILL of a quantization",
    "SIGKILL of Snakemake",
    "damaged file",
    "damaged checkpoint",
    "power cut",
    "disk full: results",
    "read-only: logs",
    "two Snakemakes",
    "clock set back",
    "edit during a job",
)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_command_again_gives_the_undisturbed_results(study, tmp_path, kind):
    if reason := unavailable(kind, tmp_path / "mount"):
        pytest.skip(reason)
    trial = run(study, kind, seed=0)
    assert trial.problems == [], trial
