"""Tests on a real SLURM, run on request: `make slurm-test`, or `pytest tests/slurm --slurm small`."""

from pathlib import Path

import pytest

from tests.slurm.cluster import cluster as started
from tests.slurm.cluster import unavailable
from tests.slurm.submission import SMALL, Submitted


def pytest_addoption(parser):
    parser.addoption("--slurm", choices=["small", "default"], help="the study to run on SLURM; small: in minutes")


def pytest_configure(config):
    config.addinivalue_line("markers", "minutes: skipped with the small study")


def pytest_collection_modifyitems(config, items):
    study = config.getoption("--slurm", None)
    here = Path(__file__).parent
    for item in (item for item in items if here in item.path.parents):  # pytest passes the items of all folders
        if not study:
            item.add_marker(pytest.mark.skip(reason="make slurm-test starts a cluster of one node for it"))
        elif study == "small" and item.get_closest_marker("minutes"):
            item.add_marker(pytest.mark.skip(reason="make slurm-test runs it, with the default study"))


@pytest.fixture(scope="session")
def cluster():
    if reason := unavailable():
        pytest.skip(f"no SLURM on this machine: {reason}")
    with started() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def overlay(request) -> dict:
    """The changes of the study to config.yaml; none for the default study."""
    return SMALL if request.config.getoption("--slurm") == "small" else {}


@pytest.fixture
def submitted(cluster, tmp_path) -> Submitted:
    """A copy of the workflow in which nothing has been made, run on the cluster."""
    return Submitted(tmp_path, cluster)
