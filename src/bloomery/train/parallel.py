"""The only file that knows of more than one process. Today there is one: the world of size 1.

The loop asks here for the world's size, its own rank, and sums over all processes. DDP and FSDP2 under torchrun will be
added behind these functions; until then a launch with several processes is refused rather than trained wrongly.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from bloomery.errors import TrainingError


@dataclass(frozen=True, slots=True)
class World:
    size: int = 1
    rank: int = 0

    def sum_counts(self, count: int) -> int:
        """Sum of every process's count, for the one division of the loss."""
        return count


def world() -> World:
    """The world that this process was launched into; raises TrainingError where it has more than one process."""
    size = os.environ.get("WORLD_SIZE", "1")
    if size != "1":
        raise TrainingError(
            "WORLD_SIZE", f"launched with {size} processes", "one process", "several devices are not supported yet"
        )
    return World()
