"""The learning rate over a run, as a factor between `floor` and 1 on every group's own rate.

warm-up: linear to 1 over the first `warmup` of the steps. Then
  constant      1
  linear        down to `floor` at the last step
  cosine        floor + (1 - floor) (1 + cos(pi x)) / 2  (Loshchilov and Hutter 2017)
  wsd           1, and down to `floor` linearly over the last `decay` of the steps (Hu et al. 2024)
  warm_restart  cosine, but its warm-up begins at `floor`: for going on from the end of another run

Embeddings that begin fitted have a warm-up of their own on top of it: `embedding_factor`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bloomery.errors import TrainingError, nearest

EMBEDDING_BEGIN = 0.1
"""Where the further factor on embedding and head begins."""
NAMES = ("wsd", "cosine", "linear", "constant", "warm_restart")


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    name: str = "cosine"
    """wsd, cosine, linear, constant or warm_restart."""
    warmup: float = 0.05
    """Share of all steps."""
    decay: float = 0.2
    """wsd only: share of all steps, at the end."""
    floor: float = 0.05
    """The factor at the last step."""
    embedding_warmup: float = 0.0
    """Share of all steps over which embedding and head come up to their whole rate; 0: at once."""

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise TrainingError("schedule.name", f"'{self.name}'", ", ".join(NAMES), nearest(self.name, NAMES))
        for key in ("warmup", "decay", "floor", "embedding_warmup"):
            if not 0.0 <= getattr(self, key) <= 1.0:
                raise TrainingError(f"schedule.{key}", str(getattr(self, key)), "a share from 0 to 1")
        if self.name == "wsd" and self.warmup + self.decay > 1.0:
            raise TrainingError("schedule", f"warmup {self.warmup} + decay {self.decay} > 1", "at most 1 together")


def factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """Factor for `step` (0 is the first) of `steps`. The first step of a warm-up is already above zero."""
    warm = round(config.warmup * steps)
    if step < warm:
        begin = config.floor if config.name == "warm_restart" else 0.0
        return begin + (1.0 - begin) * (step + 1) / warm
    if config.name == "constant":
        return 1.0
    if config.name == "wsd":
        cooling = round(config.decay * steps)
        left = steps - step
        return 1.0 if left > cooling else config.floor + (1.0 - config.floor) * (left - 1) / max(cooling, 1)
    past = (step - warm + 1) / max(steps - warm, 1)
    shape = 1.0 - past if config.name == "linear" else (1.0 + math.cos(math.pi * past)) / 2
    return config.floor + (1.0 - config.floor) * shape


def embedding_factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """A further factor on embedding and head: from EMBEDDING_BEGIN in a straight line to 1 over `embedding_warmup`."""
    warm = round(config.embedding_warmup * steps)
    return 1.0 if step >= warm else EMBEDDING_BEGIN + (1.0 - EMBEDDING_BEGIN) * step / warm
