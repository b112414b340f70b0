from __future__ import annotations

from pathlib import Path

from tuneboard.evaluate.energy import EnergyMeter, counters_of


def package(root: Path, number: str, micro: int, wraps: int = 262_143_328_850) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir()
    (folder / "name").write_text(f"package-{number}\n")
    (folder / "energy_uj").write_text(f"{micro}\n")
    (folder / "max_energy_range_uj").write_text(f"{wraps}\n")
    return folder / "energy_uj"


def test_the_energy_of_all_processors_is_added_and_parts_of_them_are_not(tmp_path: Path) -> None:
    first, second = package(tmp_path, "0", 5_000_000), package(tmp_path, "1", 1_000_000)
    package(tmp_path, "0:0", 4_000_000)
    meter = EnergyMeter(counters_of("cpu", tmp_path))
    assert meter.source == "RAPL package-0, RAPL package-1"
    first.write_text("7500000")
    second.write_text("1250000")
    assert meter.read() == 2.75


def test_a_counter_that_began_again_at_0_goes_on(tmp_path: Path) -> None:
    file = package(tmp_path, "0", 9_000_000, wraps=10_000_000)
    meter = EnergyMeter(counters_of("cpu", tmp_path))
    file.write_text("2000000")
    assert meter.read() == 3.0


def test_where_nothing_counts_or_may_be_read_nothing_is_measured(tmp_path: Path) -> None:
    meter = EnergyMeter(counters_of("cpu", tmp_path / "nowhere"))
    assert (meter.source, meter.read()) == (None, None)
    package(tmp_path, "0", 1).write_text("no number")
    assert counters_of("cpu", tmp_path) == []
