"""A run as values: what was promised, what ran, what was measured, judged and decided. From events.jsonl, no torch.

It decides nothing and repairs nothing: a verdict that is not in the events does not exist here. An unfinished run, a
torn last line, a stage that was not promoted or a control that never ran are ordinary cases, not errors. What the plan
says of a stage (its arms, its own control, its place in a loop) stands beside it where the plan is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bloomery.engine.exploratory import Evaluation, read_evaluations
from bloomery.errors import ArtifactError
from bloomery.measure import Measurement, Tally
from bloomery.plan.cast import ARM, CANDIDATE, CONTROL
from bloomery.plan.schema import Cycle, Plan, StageSpec
from bloomery.report.facts import (
    Amendment,
    Best,
    Cell,
    Claimed,
    CycleEnd,
    Decision,
    Facts,
    GateVerdict,
    Header,
    Look,
    LoopEnd,
    MadeArtifact,
    Note,
    Registration,
    Sample,
    Span,
    Sweep,
    Twin,
)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a stage. Trials of a sweep are no party: they stand apart from cells and measurements."""

    number: int
    started: str = ""
    fingerprint: str = ""
    cells: tuple[Cell, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    verdict: GateVerdict | None = None
    decision: Decision | None = None
    artifacts: tuple[MadeArtifact, ...] = ()
    samples: tuple[Sample, ...] = ()
    twin: Twin | None = None
    candidate: str = CANDIDATE
    """The party that is judged; of a stage with arms `arm:X`, or empty while none is chosen."""
    arms: tuple[str, ...] = ()
    """`arm:X`, in the order of the plan; none where the stage has no arms."""
    best: Best | None = None
    """Where the candidate was chosen among the arms."""
    sweeps: tuple[Sweep, ...] = ()
    trials: tuple[Cell, ...] = ()
    """Cells called PARTY~NUMBER: each a point of a party's sweep."""

    def final(self, metric: str, who: str) -> dict[int | None, Measurement]:
        """{seed: the measurement that counts}: the one without a step, else the one at the last step.

        What a cell measured on its way does not count before it has finished."""
        on_the_way = {cell.seed for cell in self.cells if cell.who == who and cell.state in ("running", "failed")}
        best: dict[int | None, Measurement] = {}
        for found in self.measurements:
            if found.name != metric or found.who != who or (found.step is not None and found.seed in on_the_way):
                continue
            before = best.get(found.seed)
            if before is None or (before.step is not None and (found.step is None or found.step >= before.step)):
                best[found.seed] = found
        return best

    def along(self, metric: str, who: str) -> dict[int | None, tuple[Measurement, ...]]:
        """{seed: measurements taken at a step, in order}."""
        out: dict[int | None, list[Measurement]] = {}
        for found in self.measurements:
            if found.name == metric and found.who == who and found.step is not None:
                out.setdefault(found.seed, []).append(found)
        return {seed: tuple(sorted(taken, key=lambda one: one.step or 0)) for seed, taken in out.items()}

    def whos(self) -> tuple[str, ...]:
        """Everyone with a cell or a measurement: the candidate, the control, the other arms, then the rest by name."""
        names = {cell.who for cell in self.cells} | {one.who for one in self.measurements}

        def order(who: str) -> tuple[bool, bool, int, str]:
            arm = self.arms.index(who) if who in self.arms else len(self.arms)
            return who != self.candidate, who != CONTROL, arm, who

        return tuple(sorted(names, key=order))

    @property
    def rivals(self) -> tuple[str, ...]:
        """Everyone but the candidate and the control, arms first."""
        return tuple(who for who in self.whos() if who not in (self.candidate, CONTROL))

    def cells_of(self, who: str) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.who == who)

    def trials_of(self, who: str) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.trials if cell.who.partition("~")[0] == who)

    def sweep_of(self, who: str) -> Sweep | None:
        return next((one for one in self.sweeps if one.who == who), None)

    def tally_of(self, who: str) -> Tally | None:
        """As counted in the artifact; as solved beforehand where no artifact is there yet."""
        for made in self.artifacts:
            if made.who == who and made.tally is not None:
                return made.tally
        if self.twin is not None:
            return {self.candidate: self.twin.candidate, CONTROL: self.twin.control}.get(who)
        return None

    @property
    def not_promoted(self) -> bool:
        return self.decision is not None and self.decision.action == "not_promoted"


@dataclass(frozen=True, slots=True)
class StageView:
    id: str
    kind: str
    attempts: tuple[Attempt, ...]
    skipped: str = ""
    """Why it did not run, or not in the last walk; empty where it did."""
    looks: tuple[Look, ...] = ()
    """Every time that its gate was judged on something measured, in order."""
    spec: StageSpec | None = None
    """What the plan says of it; None where the plan is not known."""
    cycle: Cycle | None = None
    """Its place in a loop."""

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def judged(self) -> Attempt | None:
        """The last attempt that has a verdict."""
        return next((one for one in reversed(self.attempts) if one.verdict is not None), None)

    @property
    def shown(self) -> Attempt | None:
        """The attempt that results are taken from: the last that was judged, else the last."""
        return self.judged or self.last

    def trials(self, who: str = "") -> int:
        """How many trials of sweeps were run, of everyone or of one party, over all attempts."""
        cells = [cell for attempt in self.attempts for cell in attempt.trials if cell.state != "reused"]
        return sum(who in ("", cell.who.partition("~")[0]) for cell in cells)

    @property
    def optional(self) -> bool:
        return self.spec is not None and self.spec.optional

    @property
    def written_id(self) -> str:
        """Its id as the plan's author wrote it."""
        return self.cycle.stage if self.cycle is not None else self.id


@dataclass(frozen=True, slots=True)
class LoopView:
    """A loop of the plan, and what became of its cycles so far."""

    id: str
    of: int
    """At most so many cycles; 0 where nobody says."""
    ends: tuple[CycleEnd, ...]
    end: LoopEnd | None
    stages: tuple[StageView, ...]
    """Of every cycle, in order; those that did not run included."""
    skipped: str = ""

    @property
    def kept(self) -> int:
        return sum(one.kept for one in self.ends)

    def in_cycle(self, number: int) -> tuple[StageView, ...]:
        return tuple(stage for stage in self.stages if stage.cycle is not None and stage.cycle.number == number)


@dataclass(frozen=True, slots=True)
class RunView:
    folder: Path
    header: Header
    registration: Registration | None
    amendments: tuple[Amendment, ...]
    stages: tuple[StageView, ...]
    """In the order of the plan, the stages of cycles among them; those that it has not come to included."""
    walks: int
    planned: Facts
    spent: Facts
    data: Facts
    timeline: tuple[Note, ...]
    """Every event but points, measurements and samples, in the order of the log."""
    spans: tuple[Span, ...]
    status: str
    """passed, failed, budget, interrupted, or unfinished (running, or killed)."""
    exit_code: int | None
    reason: str
    """Why it ended as it did, in the engine's words."""
    updated: str
    plan: Plan | None = None
    """As it is walked, loops unrolled; None where it cannot be had."""
    loops: tuple[LoopView, ...] = ()
    claims: tuple[Claimed, ...] = ()
    """In the order of the plan; those that no run has answered included."""
    spent_by: Mapping[tuple[str, str], Facts] = field(default_factory=dict[tuple[str, str], Facts])
    """{(stage, who): amounts}, over all attempts; trials of a sweep by their own names."""
    evaluations: tuple[Evaluation, ...] = ()
    """Asked after the run, oldest first: exploratory, part of no verdict."""

    @staticmethod
    def read(run_folder: Path) -> RunView:
        """Raises ArtifactError where the folder holds no run, its log is damaged, or an event lacks a field."""
        from bloomery.engine.events import FAULTS, read_events
        from bloomery.report.assembly import replay
        from bloomery.report.promised import plan_of
        from bloomery.report.registrations import with_registrations

        file = run_folder / "events.jsonl"
        lines = read_events(file)
        events = with_registrations(lines, run_folder)
        if not events:
            raise ArtifactError(
                str(run_folder),
                "holds no run",
                "a folder with events.jsonl",
                "see `bloomery runs` for the runs there are",
            )

        def place(event: Facts) -> str:
            return next((f"{file}:{number}" for number, line in enumerate(lines, start=1) if line is event), str(file))

        try:
            view = replay(run_folder, events, plan_of(events, run_folder), place)
            return replace(view, evaluations=read_evaluations(run_folder))
        except FAULTS as error:
            found, expected = f"holds events that do not go together ({error})", "events as Bloomery writes them"
            raise ArtifactError(str(file), found, expected, "restore it from a backup") from error

    @property
    def finished(self) -> bool:
        return self.status in ("passed", "failed", "budget")

    @property
    def main_stage(self) -> StageView | None:
        """Where the headline numbers come from: the last stage judged against a control, else the last judged."""
        judged = [stage for stage in self.stages if stage.judged is not None]
        against = [
            stage
            for stage in judged
            if any(
                condition.relative_to == CONTROL
                for condition in stage.judged.verdict.conditions  # type: ignore[union-attr]
            )
        ]
        ran = [stage for stage in self.stages if stage.attempts]
        return (against or judged or ran or [None])[-1]

    def touching(self, path: str) -> tuple[Amendment, ...]:
        """Amendments that changed `path` or something below it; `stages.ID` also finds what is written by position."""
        names = {path}
        if path.startswith("stages."):
            stage_id, *rest = path.split(".")[1:]
            for position, stage in enumerate(self.stages):
                if stage.id == stage_id:
                    tail = "".join(f".{part}" for part in rest)
                    names |= {f"stages.{position}{tail}", f"stages[{position}]{tail}"}
                    if stage.cycle is not None:
                        names.add(f"stages.{stage.cycle.loop}.stages.{stage.cycle.stage}{tail}")
        return tuple(
            one
            for one in self.amendments
            if any(key == name or key.startswith((f"{name}.", f"{name}[")) for key in one.changed for name in names)
        )


def is_arm(who: str) -> bool:
    return who.startswith(ARM)


def is_trial(who: str) -> bool:
    return "~" in who
