"""What to watch while training: non-finite values, spikes, plateaus. They become measurements; they decide nothing.

A non-finite loss or gradient is the exception: going on would destroy the weights, so it is a NonFinite that names
the step and the first parameter, in the order of the forward pass, whose gradient is not finite.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import torch
from torch import nn

from bloomery.errors import NonFinite

SPIKE_WINDOW = 64
SPIKE_DEVIATIONS = 6.0
SPIKE_NATS = 0.2
PLATEAU_SHARE = 0.25
PLATEAU_IMPROVEMENT = 0.01
PLATEAU_STEPS = 32


def check_finite(step: int, loss: float, gradient_norm: float, model: nn.Module) -> None:
    """Raises NonFinite where the loss or any gradient of this step is not finite. `step` counts from 1."""
    if math.isfinite(loss) and math.isfinite(gradient_norm):
        return
    name = next(
        (name for name, p in model.named_parameters() if p.grad is not None and not torch.isfinite(p.grad).all()), None
    )
    what = f"loss {loss}, gradient norm {gradient_norm}"
    where = f"step {step}" if name is None else f"step {step}, {name}"
    raise NonFinite(
        where, f"not finite: {what}", "finite numbers",
        "the last checkpoint before this step is kept; lower the learning rate, lengthen the warm-up or clip harder",
    )  # fmt: skip


def spikes(losses: Sequence[float]) -> int:
    """How often the loss jumped: it exceeds the median of the SPIKE_WINDOW losses before it by more than both
    SPIKE_DEVIATIONS robust deviations (1.4826 * median absolute deviation) and SPIKE_NATS. Steps in a row count once;
    the first SPIKE_WINDOW steps are not looked at."""
    count, inside = 0, False
    for step in range(SPIKE_WINDOW, len(losses)):
        before = losses[step - SPIKE_WINDOW : step]
        middle = statistics.median(before)
        spread = 1.4826 * statistics.median(abs(loss - middle) for loss in before)
        high = losses[step] - middle > max(SPIKE_DEVIATIONS * spread, SPIKE_NATS)
        count += high and not inside
        inside = high
    return count


def plateau(losses: Sequence[float]) -> float:
    """1.0 if the loss has stopped improving, else 0.0.

    A straight line is fitted to the last PLATEAU_SHARE of the steps; its fall over that stretch, plus one standard
    error of that fall, must stay below PLATEAU_IMPROVEMENT of the stretch's mean loss. So 1.0 is said only with the
    noise of the batches allowed for, and never of fewer than PLATEAU_STEPS steps. A short run whose batches scatter
    hides its plateau: by a hundredth of the loss, one flat run in four of 140 steps.
    """
    tail = list(losses[len(losses) - int(len(losses) * PLATEAU_SHARE) :])
    n = len(tail)
    if n < PLATEAU_STEPS:
        return 0.0
    middle, mean = (n - 1) / 2, statistics.fmean(tail)
    spread = n * (n * n - 1) / 12
    slope = sum((x - middle) * (loss - mean) for x, loss in enumerate(tail)) / spread
    residual = sum((loss - mean - slope * (x - middle)) ** 2 for x, loss in enumerate(tail)) / (n - 2)
    fall, error = -slope * n, n * math.sqrt(residual / spread)
    return 1.0 if fall + error < PLATEAU_IMPROVEMENT * mean else 0.0


def final_loss(losses: Sequence[float]) -> float:
    """Mean over the last 5 % of the steps, at least one."""
    return statistics.fmean(losses[-max(1, round(len(losses) * 0.05)) :])
