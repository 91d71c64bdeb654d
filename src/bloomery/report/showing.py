"""All tables beyond the gates, in the order in which a reader asks: claims, arms, sweeps, cycles, what was left."""

from __future__ import annotations

from bloomery.report import answers, arms, cycles, evaluations, passage, sweeps
from bloomery.report.grid import Grid
from bloomery.report.view import RunView


def grids(view: RunView) -> tuple[Grid, ...]:
    found: list[Grid | None] = [answers.claim_grid(view)]
    for stage in view.stages:
        if (attempt := stage.shown) is not None:
            found += [arms.arm_grid(view, stage, attempt), sweeps.sweep_grid(view, stage, attempt)]
    found += [cycles.cycle_grid(loop) for loop in view.loops]
    found += [passage.not_promoted_grid(view), passage.skipped_grid(view), evaluations.evaluation_grid(view)]
    return tuple(grid for grid in found if grid is not None)
