"""The real workflow, run once for all tests that only look at it."""

import pytest

from tests.workflow.study import Workflow


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Workflow:
    """The default study, made once for all tests that look at its files or plan changes."""
    workflow = Workflow(tmp_path_factory.mktemp("study"))
    done = workflow.run("--cores", "2")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return workflow


@pytest.fixture
def fresh(tmp_path) -> Workflow:
    """A copy of the workflow in which nothing has been made."""
    return Workflow(tmp_path)
