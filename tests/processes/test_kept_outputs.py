"""Outputs are set aside once, named back after a failure alone, and only if nothing has taken their place."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.jobs import Job

from kdq.workflow.kept_outputs import METHODS, keep_outputs, put_back, set_aside


@pytest.fixture
def files(tmp_path):
    """Two outputs of a job."""
    return [str(tmp_path / name) for name in ("model", "history")]


def write(files, text: str) -> None:
    for file in files:
        with open(file, "w") as out:
            out.write(text)


def read(files) -> list[str]:
    texts = []
    for file in files:
        with open(file) as text:
            texts.append(text.read())
    return texts


def test_what_a_killed_job_left_does_not_replace_what_was_set_aside_before(files):
    write(files, "old")
    set_aside(files)
    write(files[1:], "new")  # then the job was killed
    set_aside(files)
    assert read(files[1:]) == ["new"]
    Path(files[1]).unlink()
    assert put_back(files) == files and read(files) == ["old", "old"]
    assert put_back(files) == []
    assert sorted(path.name for path in Path(files[0]).parent.iterdir()) == ["history", "model"]


def test_whole_outputs_replace_what_was_set_aside_before(files):
    write(files, "old")
    set_aside(files)
    write(files, "new")
    set_aside(files)
    assert put_back(files) == files and read(files) == ["new", "new"]


def test_what_took_their_place_stays(files):
    write(files, "old")
    set_aside(files)
    write(files[:1], "new")
    assert put_back(files) == files[1:] and read(files) == ["new", "old"]


def imitation(files):
    """Return a job like Snakemake's, of a class of its own: outputs are removed before it, and after a failure."""

    class Imitation:
        output, forgotten = files, []

        def __init__(self):
            self.dag = SimpleNamespace(workflow=SimpleNamespace(persistence=self))

        def cleanup(self, job):
            self.forgotten.append(job)

        async def remove_existing_output(self):
            for file in files:
                Path(file).unlink(missing_ok=True)

        async def postprocess(self, error=False):
            for file in files if error else ():
                Path(file).unlink(missing_ok=True)

    return Imitation()


@pytest.mark.parametrize(("is_judged", "puts_back"), [(True, True), (False, True), (True, False)])
def test_a_failed_job(files, is_judged, puts_back):
    job = imitation(files)
    keep_outputs(type(job), lambda outputs: is_judged, puts_back)
    write(files, "old")
    asyncio.run(job.remove_existing_output())
    assert not any(map(os.path.exists, files))
    write(files, "new")
    asyncio.run(job.postprocess(error=True))
    if is_judged and puts_back:
        assert read(files) == ["old", "old"] and job.forgotten == [job]
    else:
        assert not any(map(os.path.exists, files)) and job.forgotten == []
        assert put_back(files) == (files if is_judged else [])


def test_a_job_that_succeeds_leaves_nothing_aside(files):
    job = imitation(files)
    keep_outputs(type(job), bool, True)
    write(files, "old")
    asyncio.run(job.remove_existing_output())
    write(files, "new")
    asyncio.run(job.postprocess())
    assert read(files) == ["new", "new"] and len(os.listdir(Path(files[0]).parent)) == 2


def test_snakemake_has_the_methods():
    assert all(asyncio.iscoroutinefunction(getattr(Job, name)) for name in METHODS)


def test_without_the_methods_nothing_is_changed():
    keep_outputs(None, bool, True)
    keep_outputs(SimpleNamespace, bool, True)
    assert not any(hasattr(SimpleNamespace, name) for name in METHODS)
