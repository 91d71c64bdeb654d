"""Loops while a plan is walked: what each holds, and when it ends.

A loop holds the inputs that it names. Where a cycle passes, what its stages made of them takes their place; the first
cycle that does not is undone, and the cycles after it are skipped. A loop never fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bloomery.engine.artifact import Artifact
from bloomery.engine.handing import Outputs, share_seed, wanted
from bloomery.engine.session import Session
from bloomery.plan import cast
from bloomery.plan.schema import Plan, StageSpec


@dataclass(slots=True)
class _Loop:
    spec: StageSpec
    holds: Outputs
    cycles: int = 0
    """Those that passed."""
    ended: str = ""
    """Why there are no further cycles."""
    making: Outputs = field(default_factory=dict[str, dict[tuple[str, int], Artifact]])
    """What this cycle's stages have made of what is held."""


class Loops:
    """The loops of one walk. `handed` is the runner's; a loop's own entry in it is kept here."""

    def __init__(self, session: Session, handed: dict[str, Outputs]) -> None:
        self._session, self._handed = session, handed
        self._loops: dict[str, _Loop] = {}

    def begin(self, plan: Plan, stage: StageSpec) -> None:
        """The loop `stage` holds what came in."""
        holds = self.came_in(plan, stage)
        self._loops[stage.id] = _Loop(stage, holds)
        self._handed[stage.id] = holds

    def came_in(self, plan: Plan, stage: StageSpec) -> Outputs:
        holds: Outputs = {}
        for name, text in stage.needs.items():
            if text.startswith("inputs."):
                artifact = self._session.adopted[text.removeprefix("inputs.")]
                holds[name] = {(cast.CANDIDATE, seed): artifact for seed in cast.seeds(plan, stage)}
                continue
            one = wanted(self._session, plan, name, text)
            if one.output == "passed":
                continue
            given = self._handed[one.stage][one.output]
            if one.party != cast.CANDIDATE:
                seeds = tuple(seed for party, seed in given if party == one.party)
                given = {(cast.CANDIDATE, seed): given[one.party, share_seed(seeds, seed)] for seed in seeds}
            holds[name] = dict(given)
        return holds

    def cycles(self) -> dict[str, int]:
        """{loop: cycles that passed}"""
        return {name: loop.cycles for name, loop in self._loops.items()}

    def closed(self, stage: StageSpec) -> str:
        """Why a stage inside a loop is not run: the loop has ended. Empty where it is."""
        if stage.cycle is None:
            return ""
        loop = self._loops.get(stage.cycle.loop)
        return f"{stage.cycle.loop} was skipped" if loop is None else loop.ended

    def undo(self, stage: StageSpec, why: str) -> None:
        """The cycle did not pass: what was held at its start is held on, and no further cycle is run."""
        assert stage.cycle is not None
        loop = self._loops[stage.cycle.loop]
        loop.ended = f"{stage.cycle.loop} ended: cycle {stage.cycle.number} did not pass at {stage.written_id}"
        loop.making = {}
        self._session.emit(
            "cycle_ended", once=True, stage=stage.cycle.loop, cycle=stage.cycle.number, kept=False,
            at=stage.written_id, why=why,
        )  # fmt: skip
        self._tell_end(loop)

    def passed_over(self, stage: StageSpec, *, kept: bool = True) -> None:
        """A stage has ended or was skipped. kept: whether the cycle may still pass."""
        if stage.cycle is None or (loop := self._loops.get(stage.cycle.loop)) is None or loop.ended:
            return
        if not kept:
            self.undo(stage, f"the gate of {stage.written_id} did not pass")
            return
        for name, outputs in self._handed.get(stage.id, {}).items():
            if name in loop.holds:
                loop.making[name] = outputs
        if not stage.cycle.last:
            return
        loop.cycles += 1
        loop.holds = {**loop.holds, **loop.making}
        self._handed[loop.spec.id] = loop.holds
        loop.making = {}
        self._session.emit("cycle_ended", once=True, stage=loop.spec.id, cycle=stage.cycle.number, kept=True)
        if stage.cycle.number == loop.spec.repeat:
            loop.ended = f"{loop.spec.id} ended after all {loop.cycles} cycles"
            self._tell_end(loop)

    def _tell_end(self, loop: _Loop) -> None:
        folder = self._session.folder
        holds = {
            name: {
                str(seed): {"digest": one.digest, "path": one.path.relative_to(folder).as_posix()}
                for (party, seed), one in outputs.items()
                if party == cast.CANDIDATE
            }
            for name, outputs in loop.holds.items()
        }
        self._session.emit(
            "loop_ended", once=True, stage=loop.spec.id, cycles=loop.cycles, of=loop.spec.repeat, why=loop.ended,
            holds=holds,
        )  # fmt: skip
