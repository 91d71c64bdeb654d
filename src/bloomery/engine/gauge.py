"""What a run holds, beside what it spends: the peak memory of its process and the size of its folder, both in bytes.

Memory is the host's: the kernel's high-water mark of this process (VmHWM; elsewhere getrusage, which on Linux
would also tell of a larger process that started this one). What lies on a GPU is not in it. Neither is read more often
than pays: memory once a second, the folder every ten seconds, and both when spending is written, as at a cell's end.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bloomery.engine.budget import Held, Ledger

MEMORY_EVERY_SECONDS = 1.0
DISK_EVERY_SECONDS = 10.0


def peak_memory() -> int:
    """The most bytes that this process has had in memory so far."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def size_of(folder: Path) -> int:
    """Bytes of all files below `folder`; what vanishes meanwhile is not counted."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        total += size_of(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                except OSError:
                    continue
    except OSError:
        return total
    return total


class Gauge:
    """Looks now and then, and tells the ledger, which knows the caps."""

    def __init__(
        self,
        folder: Path,
        *,
        memory: Callable[[], int] = peak_memory,
        size: Callable[[Path], int] = size_of,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._memory, self._size, self._clock = folder, memory, size, clock
        self._memory_read = self._disk_read = float("-inf")
        self._before: dict[str, int] = {}
        """{stage: the peak when it began}: a peak that an earlier stage left is not held against it."""

    def look(self, ledger: Ledger, stage: str, *, now: bool = False) -> None:
        """Read what is due, or with `now` everything."""
        moment = self._clock()
        if now or stage not in self._before or moment - self._memory_read >= MEMORY_EVERY_SECONDS:
            self._memory_read = moment
            peak = self._memory()
            own = peak if peak > self._before.setdefault(stage, peak) else 0
            ledger.hold(stage, memory=Held(peak, own))
        if now or moment - self._disk_read >= DISK_EVERY_SECONDS:
            self._disk_read = moment
            ledger.hold(stage, disk=Held(self._size(self._folder), self._size(self._folder / stage)))
