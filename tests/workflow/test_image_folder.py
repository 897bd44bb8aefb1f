"""An image folder in the workflow: its content decides what is made again, and verify compares it."""

import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

DATA = "results/folder/data/split=0.safetensors"
METRICS = "results/folder/seed=0/hard/rtn,bits=4/metrics.json"


def paint(path, red: int, label: int) -> None:
    """Write an image of 8x8 pixels as BMP, whose size does not depend on its content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((8, 8, 3), (red, 255 * label, red), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def verified(workflow, *arguments) -> str:
    words = [sys.executable, "-m", "kdq.provenance.verify", *arguments, "--configfile", str(workflow.overlay)]
    done = subprocess.run(words, cwd=workflow.folder, env=workflow.environment, capture_output=True, text=True)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.fixture
def prepared(fresh):
    """A workflow whose model of the images in ``images/`` is evaluated; these are old enough to be cached."""
    for number in range(20):
        for label, name in enumerate(["cat", "dog"]):
            paint(fresh.folder / f"images/{name}/{number:02}.bmp", 10 * number, label)
    (fresh.folder / "images/README.txt").write_text("beside the classes")
    fresh.configure({"datasets": ["folder"], "data": {"image_folder": "images", "image_size": 8}})
    time.sleep(2.1)
    done = fresh.run("--cores", "2", METRICS)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return fresh


def test_content_decides_what_is_made_again(prepared):
    images = prepared.folder / "images"
    assert "left out: 1 files beside" in (prepared.folder / "logs/prepare_data/folder/split=0.log").read_text()
    assert prepared.plan(METRICS) == set()
    made_ns = (prepared.folder / DATA).stat().st_mtime_ns
    for path in images.rglob("*.bmp"):
        os.utime(path)  # touch
    assert prepared.plan(METRICS) == set(), "the content is equal"
    shutil.copytree(images, prepared.folder / "copy", copy_function=shutil.copyfile)  # cp -r
    shutil.rmtree(images)
    (prepared.folder / "copy").rename(images)
    (images / "cat/03.bmp").rename(images / "cat/03b.bmp")  # the order stays
    assert prepared.plan(METRICS) == set(), "the content is equal"
    assert (prepared.folder / DATA).stat().st_mtime_ns == made_ns
    assert "stale" not in verified(prepared)

    path = images / "dog/07.bmp"
    before, status = path.read_bytes(), path.stat()
    paint(path, 71, 1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size and path.stat().st_mtime_ns == status.st_mtime_ns
    assert {DATA, METRICS} <= prepared.plan(METRICS), "other content with the same name, size and time"
    report = verified(prepared)
    assert f"stale       {DATA}  (parameter data.images: " in report
    assert f"stale       {METRICS}" in report and f"fresh       {METRICS}" not in report
    path.write_bytes(before)
    assert prepared.plan(METRICS) == set(), "the former content is back"
    assert "stale" not in verified(prepared)


def test_results_without_their_images_say_that_they_are_not_compared(prepared):
    (prepared.folder / "images").rename(prepared.folder / "elsewhere")
    report = verified(prepared)
    assert f"fresh       {DATA}  (not compared with its images: data.image_folder 'images' is not here)" in report
    assert f"fresh       {METRICS}\n" in report and "stale" not in report


def test_images_that_change_between_plan_and_job_are_refused(prepared):
    path = prepared.folder / "images/cat/00.bmp"
    before = path.read_bytes()
    paint(path, 99, 0)  # as it is planned
    script = prepared.folder / "scripts/prepare_data.py"
    edit = f"    open({str(path)!r}, 'wb').write({before!r})\n"  # the job begins with taking it back
    script.write_text(script.read_text().replace("    prepared = ", f"{edit}    prepared = ", 1))
    done = prepared.run("--cores", "2", DATA)
    assert done.returncode != 0
    assert "error: images: its images changed after this run was planned; start snakemake again" in done.stderr
