"""The energy of a machine's packages, read from counters that overflow and may be absent."""

import pytest

from kdq.train.energy import EnergyMeter

RANGE = 262143328850  # microjoules: a counter's largest value


@pytest.fixture
def powercap(tmp_path):
    """Write counters in microjoules by the names of their folders, as the kernel has them."""

    def write(**packages: int):
        for name, energy in {**packages, "intel_rapl_0_0": 5, "intel_rapl_9": 7}.items():
            folder = tmp_path / name.replace("rapl_", "rapl:").replace("_", "-", 1).replace("_", ":")
            folder.mkdir(exist_ok=True)
            named = "core" if name == "intel_rapl_0_0" else "psys" if name == "intel_rapl_9" else f"package-{name[-1]}"
            (folder / "name").write_text(f"{named}\n", encoding="ascii")
            (folder / "energy_uj").write_text(f"{energy}\n", encoding="ascii")
            (folder / "max_energy_range_uj").write_text(f"{RANGE}\n", encoding="ascii")
        return tmp_path

    return write


def test_the_packages_are_summed_and_nothing_else(powercap):
    meter = EnergyMeter(powercap(intel_rapl_0=1_000_000, intel_rapl_1=2_000_000))
    powercap(intel_rapl_0=4_000_000, intel_rapl_1=2_500_000)
    assert meter.joules() == pytest.approx(3.5)
    meter.restart()
    assert meter.joules() == 0


def test_a_counter_that_started_again(powercap):
    meter = EnergyMeter(powercap(intel_rapl_0=RANGE - 1_000_000))
    powercap(intel_rapl_0=500_000)
    assert meter.joules() == pytest.approx(1.500001)


def test_none_where_there_is_no_counter(tmp_path):
    meter = EnergyMeter(tmp_path)
    meter.restart()
    assert meter.joules() is None


def test_none_where_a_counter_is_no_number(powercap):
    folder = powercap(intel_rapl_0=1)
    (folder / "intel-rapl:0" / "energy_uj").write_text("?", encoding="ascii")
    assert EnergyMeter(folder).joules() is None
