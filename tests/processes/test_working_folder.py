"""Before the jobs begin: folders that can't be written to, and files of a time to come."""

import errno
import os
import time

import pytest

from kdq.errors import UserError
from kdq.workflow import working_folder


def test_files_of_a_time_to_come_are_of_now_and_others_stay_as_they_are(tmp_path):
    now = time.time()
    times = {"past": now - 1000, "future": now + 1000}
    for name, moment in times.items():
        (tmp_path / "below").mkdir(exist_ok=True)
        (tmp_path / "below" / name).write_text("")
        os.utime(tmp_path / "below" / name, (moment, moment))
    lines = working_folder.prepare(tmp_path, tmp_path / "missing")
    assert len(lines) == 1 and "reset 1 modification" in lines[0]
    assert (tmp_path / "below/past").stat().st_mtime == pytest.approx(now - 1000)
    assert now <= (tmp_path / "below/future").stat().st_mtime <= time.time()
    assert working_folder.prepare(tmp_path) == []


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match="can't be written to") as refused:
        working_folder.prepare(tmp_path)
    assert "\n" not in str(refused.value)


class TestRoom:
    def test_a_full_disk_is_one_line_and_nothing_is_left_there(self, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=f"^{tmp_path}: can't be written .No space left on device.; make room"):
            working_folder.require_free_space(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_with_room_nothing_happens(self, tmp_path):
        working_folder.require_free_space(tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_that_is_not_there_is_none_to_look_at(self, tmp_path):
        working_folder.require_free_space(tmp_path / "missing")
        assert not (tmp_path / "missing").exists()
