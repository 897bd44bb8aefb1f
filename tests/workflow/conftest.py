"""The real workflow: the default study, finished once per test run, and copies of it."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.workflow.study import Workflow


def shared_folder(tmp_path_factory) -> Path:
    """Return the temporary folder that all workers of this test run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """The folder of the finished default study, made by the first worker that needs it; tests change copies."""
    folder = shared_folder(tmp_path_factory) / "study"
    done = folder / "done"
    with FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            run = Workflow(folder).run("--cores", "2")
            assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-8000:]
            done.touch()
    return folder


@pytest.fixture
def finished(original, tmp_path_factory):
    """A copy of the finished default study, for this test alone."""
    folder = tmp_path_factory.mktemp("finished")
    yield Workflow(folder, original)
    shutil.rmtree(folder)


@pytest.fixture
def fresh(tmp_path) -> Workflow:
    """A copy of the workflow in which nothing has been made."""
    return Workflow(tmp_path)
