"""Energy that the processor's packages took, from the counters of RAPL (Linux's power capping interface)."""

import re
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


class EnergyMeter:
    """Counters of all packages of a machine, other processes' energy included; none if they are absent or closed.

    A counter starts again at 0 after some hundred kilojoules: read it at least every half hour.
    """

    def __init__(self, powercap: Path = POWERCAP):
        folders = sorted(path for path in powercap.glob("intel-rapl:*") if re.fullmatch(r"intel-rapl:\d+", path.name))
        try:
            packages = [path for path in folders if (path / "name").read_text(encoding="ascii").startswith("package")]
            self._ranges = [int((path / "max_energy_range_uj").read_text(encoding="ascii")) for path in packages]
            self._counters = [path / "energy_uj" for path in packages]
            self.restart()
        except (OSError, ValueError):  # only root may read them on most machines
            self._ranges = self._counters = self._before = []

    def restart(self) -> None:
        """Measure from now on."""
        self._before = self._read()

    def joules(self) -> float | None:
        """Return the energy since the last restart in joules, None if it is not known."""
        if not self._counters:
            return None
        triples = zip(self._before, self._read(), self._ranges, strict=True)
        return sum((after - before) % (most + 1) for before, after, most in triples) / 1e6

    def _read(self) -> list[int]:
        return [int(path.read_text(encoding="ascii")) for path in self._counters]
