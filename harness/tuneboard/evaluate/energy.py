"""Energy that answering took, where the machine counts it: processors by RAPL, NVIDIA GPUs by NVML.

The counters count everything that their processor or GPU does: other work, and what it draws when idle. On most systems
root alone may read RAPL's files since 2020 (CVE-2020-8694); where they cannot be read, nothing is measured.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Where Linux lists RAPL's domains; those of whole packages have one number in their names.
POWERCAP = Path("/sys/class/powercap")
_PACKAGES = "intel-rapl:[0-9]*"


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter of energy."""

    name: str
    joules: Callable[[], float]
    """What it stands at."""
    wraps_at: float | None = None
    """Joules after which it begins at 0 again; None where it does not."""


class EnergyMeter:
    """Measures energy between its making and ``read``.

    Args:
        counters: From ``counters_of``.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        self.counters = counters
        self._before = [counter.joules() for counter in counters]

    @property
    def source(self) -> str | None:
        """Whose counters are read; None where there are none."""
        return ", ".join(counter.name for counter in self.counters) or None

    def read(self) -> float | None:
        """Return the joules since the meter was made; None without counters."""
        if not self.counters:
            return None
        total = 0.0
        for counter, before in zip(self.counters, self._before, strict=True):
            used = counter.joules() - before
            total += used if used >= 0 or counter.wraps_at is None else used + counter.wraps_at
        return total


def counters_of(device: str, powercap: Path = POWERCAP) -> list[Counter]:
    """Return the counters of what an engine works on; none where there are none, or they cannot be read.

    Args:
        device: Of the engine: ``cpu``, or the name of a GPU.
        powercap: Folder of RAPL's domains.
    """
    try:
        return _of_packages(powercap) if device == "cpu" else _of_gpu()
    except (OSError, ValueError, AttributeError):
        return []


def _of_packages(powercap: Path) -> list[Counter]:
    found = []
    for folder in sorted(powercap.glob(_PACKAGES)):
        if folder.name.count(":") != 1:
            continue  # a part of a package, such as its cores
        file = folder / "energy_uj"
        wraps_at = _micro(folder / "max_energy_range_uj")
        counter = Counter(f"RAPL {(folder / 'name').read_text(encoding='ascii').strip()}", _reader(file), wraps_at)
        counter.joules()
        found.append(counter)
    return found


def _reader(file: Path) -> Callable[[], float]:
    return lambda: _micro(file)


def _micro(file: Path) -> float:
    return int(file.read_text(encoding="ascii")) / 1e6


def _of_gpu() -> list[Counter]:
    """Return the counter of the GPU that torch works on."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    nvml = ctypes.CDLL("libnvidia-ml.so.1")
    handle = ctypes.c_void_p()
    # CUDA numbers the GPUs that it is shown, NVML all of them: only the identity is the same for both.
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle)):
        return []

    def joules() -> float:
        millijoules = ctypes.c_ulonglong()
        if nvml.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)):
            raise ValueError("this GPU counts no energy")
        return millijoules.value / 1e3

    joules()
    return [Counter(f"NVML {torch.cuda.get_device_name()}", joules)]
