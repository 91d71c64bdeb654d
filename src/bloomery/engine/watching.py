"""`stop_if`: conditions judged on the looks that a cell takes on its way. One that holds ends the cell as failed.

A look is judged as soon as it is recorded and before anything is saved after it, so a killed cell, which goes on from a
checkpoint before the look, comes to the same end. A condition that is missing or inconclusive does not hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bloomery.engine.evidence import pattern_of
from bloomery.engine.gate import judge
from bloomery.measure import Emitted, Measurement
from bloomery.plan.cast import ARM, CANDIDATE, fixed_candidate
from bloomery.plan.metrics import base
from bloomery.plan.schema import Condition, StageSpec


def watched_of(stage: StageSpec, who: str) -> tuple[Condition, ...]:
    """The conditions of `stop_if` that speak of this party. Where `best` is yet to be chosen every arm may be it."""
    fixed = fixed_candidate(stage)
    judged = who == fixed if fixed is not None else who.startswith(ARM)
    names = {who, *([CANDIDATE] if judged else []), *([f"{ARM}*"] if who.startswith(ARM) else [])}
    return tuple(condition for condition in stage.stop_if if condition.of in names)


@dataclass(slots=True)
class Watch:
    """Judges one cell while it runs. `seen` begins with what the cell measured before it was interrupted."""

    conditions: Sequence[Condition]
    declared: Mapping[str, Emitted]
    seen: dict[tuple[str, int | None], Measurement] = field(default_factory=dict)
    reason: str = ""
    """The condition that held, in words; empty while none has."""

    @staticmethod
    def begin(
        conditions: Sequence[Condition], declared: Mapping[str, Emitted], measured: Iterable[Measurement]
    ) -> Watch:
        watch = Watch([one.model_copy(update={"of": CANDIDATE}) for one in conditions], declared)
        for one in measured:
            watch.seen[one.name, one.step] = replace(one, who=CANDIDATE)
        return watch

    def look(self, measurement: Measurement, share: float | None) -> None:
        """share: of the stage, done by now; None where the kind does not say, and `after` then waits for the end."""
        self.seen[measurement.name, measurement.step] = replace(measurement, who=CANDIDATE)
        until = [one for one in self.seen.values() if one.step is not None and one.step <= (measurement.step or 0)]
        for condition in self.conditions:
            early = condition.after is not None and (share is None or share < condition.after)
            if self.reason or early or not pattern_of(base(condition.metric)).fullmatch(measurement.name):
                continue
            verdict = judge((condition,), until, self.declared)
            if verdict.passed:
                self.reason = f"stop_if: {'; '.join(one.words for one in verdict.conditions)}"
