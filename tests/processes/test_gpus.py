"""The device of a job: which are visible, which is chosen, and how long it is held."""

import pytest

from kdq.workflow import gpus


@pytest.mark.parametrize(
    ("setting", "devices"),
    [
        (None, ["0", "1", "2", "3"]),
        ("", []),
        ("2", ["2"]),
        ("3, 1", ["3", "1"]),
        ("-1", []),
        ("0,-1,1", ["0"]),
        ("NoDevFiles", []),
        ("GPU-5ebe9f43-ac33,GPU-7", ["GPU-5ebe9f43-ac33", "GPU-7"]),
        ("MIG-GPU-5ebe9f43/1/0,MIG-17af", ["MIG-GPU-5ebe9f43/1/0", "MIG-17af"]),
        ("0,0", []),
    ],
)
def test_visible_devices_are_those_of_cuda(setting, devices):
    assert gpus.visible(setting, 4) == devices


def test_without_a_setting_all_that_are_installed_are_visible():
    assert gpus.visible(None, 0) == []
    assert gpus.visible("0,1", 0) == ["0", "1"]  # the setting decides


@pytest.mark.parametrize(
    ("holders", "device"), [({"0": 0, "1": 0}, "0"), ({"0": 1, "1": 0}, "1"), ({"0": 2, "1": 2, "2": 1}, "2")]
)
def test_the_device_with_the_fewest_jobs_is_chosen(holders, device):
    assert gpus.least_held(holders) == device


def test_jobs_are_spread_and_a_device_is_free_when_its_job_ends(tmp_path):
    devices = ["GPU-a", "MIG-b/1"]
    held = [gpus.hold(devices, tmp_path) for _ in range(5)]
    assert [device for device, _ in held] == ["GPU-a", "MIG-b/1", "GPU-a", "MIG-b/1", "GPU-a"]
    for device, lock in held[:3:2]:  # two of three jobs of the first device end
        assert device == "GPU-a"
        lock.close()
    assert [gpus.hold(devices, tmp_path)[0] for _ in range(1)] == ["GPU-a"]


def test_a_folder_without_locks_is_an_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        gpus.hold(["0", "1"], tmp_path / "missing")
