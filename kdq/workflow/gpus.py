"""Jobs of one machine spread over its GPUs: each job uses the visible one that the fewest jobs hold.

A job holds a device by a lock of the kernel, which ends with its process. Needs the standard library alone.
"""

import fcntl
import re
from itertools import count
from pathlib import Path

DEVICE = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")  # as CUDA names them: a number, or (the beginning of) a UUID


def visible(setting: str | None, installed: int) -> list[str]:
    """Return the devices that a process sees with ``setting`` as its CUDA_VISIBLE_DEVICES, None if it is not set.

    CUDA takes no notice of what follows the first word that is no device, and sees none if one is repeated.

    >>> visible("2,GPU-5ebe9f43,-1,0", 4), visible(None, 2), visible("", 4)
    (['2', 'GPU-5ebe9f43'], ['0', '1'], [])
    """
    if setting is None:
        return [str(number) for number in range(installed)]
    devices = []
    for word in map(str.strip, setting.split(",")):
        if not DEVICE.fullmatch(word):
            break
        devices.append(word)
    return devices if len(set(devices)) == len(devices) else []


def least_held(holders: dict[str, int]) -> str:
    """Return the device with the fewest jobs, of several the first.

    >>> least_held({"0": 2, "1": 1, "2": 1})
    '1'
    """
    return min(holders, key=holders.get)


def hold(devices: list[str], folder: Path):
    """Choose a device for this process and return it with the lock that holds it: keep that open while it is used.

    ``folder`` is where the locks of all jobs lie. Raise OSError if it can't hold locks.
    """
    with open(folder / "devices.lock", "w", encoding="utf-8") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # so that no other job counts meanwhile
        device = least_held({device: sum(1 for _ in _held(device, folder)) for device in devices})
        for place in _places(device, folder):
            if lock := _lock(place):
                return device, lock


def _places(device: str, folder: Path):
    name = re.sub(r"\W", "_", device)
    return (folder / f"device-{name}.{number}.lock" for number in count())


def _held(device: str, folder: Path):
    """Yield the places of a device that jobs hold."""
    for place in _places(device, folder):
        if not place.exists():
            return
        if lock := _lock(place):
            lock.close()
        else:
            yield place


def _lock(place: Path):
    """Return the open file if its lock is this process's now, None if another process has it."""
    file = open(place, "w", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
