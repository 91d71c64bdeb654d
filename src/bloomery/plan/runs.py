"""Every run that a plan will make, and why: stage by stage, the candidate or the arms, controls and baselines.

Of the plan as it is walked, so a loop is shown cycle by cycle; its cycles are the most there can be. Pure: nothing is
priced and nothing is tried. A sweep's values run on the first seed, and the best of them is that seed's run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.plan import cast
from bloomery.plan.load import Loaded, resolve
from bloomery.plan.schema import Plan, StageSpec


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One party of one stage. `trials`: the values that its sweep tries, none without a sweep."""

    stage: str
    party: str
    seeds: tuple[int, ...]
    trials: tuple[Mapping[str, Any], ...]
    why: str
    at_most: bool = False
    """Whether it belongs to a cycle of a loop, which may end before."""

    @property
    def cells(self) -> int:
        """How often something is trained or fitted."""
        return len(self.seeds) + max(0, len(self.trials) - 1)

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage, "party": self.party, "seeds": list(self.seeds),
            "trials": [dict(point) for point in self.trials],
            "cells": self.cells, "why": self.why, "at_most": self.at_most,
        }  # fmt: skip


def planned_runs(loaded: Loaded) -> tuple[PlannedRun, ...]:
    """The runs of the first walk, in the order of the plan. Rules may make some of them be made again."""
    plan = resolve(loaded)
    return tuple(run for stage in plan.stages if stage.repeat is None for run in _of_stage(plan, stage))


def _of_stage(plan: Plan, stage: StageSpec) -> Iterator[PlannedRun]:
    seeds, trials = cast.seeds(plan, stage), cast.trials(stage)
    for party in cast.parties(plan, stage):
        swept = trials if cast.is_swept(plan, stage, party) else ()
        reasons = [_why(plan, stage, party)]
        if swept:
            values = "1 value" if len(swept) == 1 else f"{len(swept)} values"
            reasons.append(f"sweep: {values} on seed {seeds[0]}")
        yield PlannedRun(stage.id, party, seeds, swept, "; ".join(reasons), stage.cycle is not None)
    for name in cast.baselines(plan, stage):
        party = f"{cast.BASELINE}{name}"
        asks = next(one.why for one in cast.asking(plan, stage) if one.names(party))
        yield PlannedRun(stage.id, party, seeds, (), f"baseline {name}: {asks}", stage.cycle is not None)


def _why(plan: Plan, stage: StageSpec, party: str) -> str:
    if party == cast.CONTROL:
        return f"control: {cast.why_control(plan, stage)}"
    if party == cast.CANDIDATE:
        return "candidate"
    return f"arm {party.removeprefix(cast.ARM)}" + (", the candidate" if party == cast.fixed_candidate(stage) else "")
