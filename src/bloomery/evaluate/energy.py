"""Joules, where the machine counts them: RAPL for processor packages on Linux, NVML for a CUDA device. Else nothing.

RAPL's counters (/sys/class/powercap/intel-rapl:N/energy_uj) cover whole packages and whatever else runs on them; often
only root may read them, and they wrap around at max_energy_range_uj. NVML counts millijoules of the board since the
driver was loaded. Both are read before and after; a machine without either gives None, never a guess.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")

Meter = Callable[[], float | None]
"""Joules since it was made; None where a counter can no longer be read."""


def meter(device: str, powercap: Path = POWERCAP) -> Meter | None:
    """A meter for the device, or None where nothing counts its energy."""
    if device.startswith("cuda"):
        return _board(device)
    return _packages(powercap) if device == "cpu" else None


def _packages(powercap: Path) -> Meter | None:
    try:
        found = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
        zones = [zone for zone in found if (zone / "name").read_text().startswith("package")]
        before = {zone: _read(zone / "energy_uj") for zone in zones}
        ranges = {zone: _read(zone / "max_energy_range_uj") for zone in zones}
    except (OSError, ValueError):
        return None
    if not before:
        return None

    def joules() -> float | None:
        try:
            used = [(_read(zone / "energy_uj") - before[zone]) % (ranges[zone] + 1) for zone in before]
        except (OSError, ValueError):
            return None
        return sum(used) / 1e6

    return joules


def _read(file: Path) -> int:
    return int(file.read_text())


def _board(device: str) -> Meter | None:
    try:
        nvml: Any = importlib.import_module("pynvml")
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(int(device.partition(":")[2] or 0))
        before = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # the library is absent, the driver is, or the board has no counter: all say the same
        return None

    def joules() -> float | None:
        try:
            return (nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - before) / 1e3
        except Exception:
            return None

    return joules
