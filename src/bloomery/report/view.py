"""A run as values: what was promised, what ran, what was measured, judged and decided. From events.jsonl, no torch.

It decides nothing and repairs nothing: a verdict that is not in the events does not exist here. An unfinished run, a
torn last line, a stage that was not promoted or a control that never ran are ordinary cases, not errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.errors import ArtifactError
from bloomery.measure import Interval, Measurement, Tally

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Note:
    """One event as it stands in the log, for the timeline and for whatever this file has no name for."""

    time: str
    event: str
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Header:
    """What was started: the plan, its digest, and where it ran."""

    run: str = ""
    plan: str = ""
    digest: str = ""
    source: str = ""
    mode: str = ""
    """confirmatory, exploratory, or empty where the log does not say."""
    overrides: Facts = field(default_factory=dict)
    argv: tuple[str, ...] = ()
    plan_text: str = ""
    provenance: Facts = field(default_factory=dict)
    opened: str = ""


@dataclass(frozen=True, slots=True)
class Registration:
    """What was promised before the first step."""

    time: str
    digest: str
    commit: str
    hypothesis: str
    variable: str
    control: Any
    prediction: Any
    fail_conditions: Any


@dataclass(frozen=True, slots=True)
class Amendment:
    """A registered plan that was changed: why, which keys, and whether results had been seen by then."""

    time: str
    why: str
    before: str
    after: str
    changed: tuple[str, ...]
    after_results: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a training curve; loss in nats per token."""

    step: int
    tokens: float
    loss: float
    lr: float | None = None
    tokens_per_second: float | None = None
    gradient_norm: float | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """One seed of the candidate, the control or a baseline in one attempt. `state`: running, finished, failed, reused.

    A reused cell carries the curve and the cost of the cell it was taken from."""

    who: str
    seed: int | None
    state: str
    started: str = ""
    finished: str = ""
    first_step: int = 0
    seconds: float | None = None
    tokens: float | None = None
    flops: float | None = None
    hashes: Facts = field(default_factory=dict)
    points: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class ConditionVerdict:
    """One condition of a gate as it was judged; value and interval on its own scale (ratio, difference or absolute)."""

    condition: Facts
    words: str
    status: str
    metric: str = ""
    of: str = "candidate"
    relative_to: str | None = None
    value: float | None = None
    interval: Interval | None = None
    n: int | None = None
    """Items behind the value, of the seed that has fewest."""
    seeds: tuple[int | None, ...] = ()
    values: tuple[float, ...] = ()
    """Seed by seed, in the order of `seeds`."""
    reference: float | None = None
    candidate: float | None = None
    note: str = ""
    comparison: str = ""
    """better, not worse, worse, undecided: the judge's word; empty for absolute conditions."""
    confidence: float | None = None
    alternative: int | None = None
    """The place of the `any` that this belongs to: it need not pass itself."""

    @property
    def difference(self) -> bool:
        return self.condition.get("as") == "difference"

    @property
    def threshold(self) -> float | None:
        try:
            return float(self.condition["value"])
        except (KeyError, TypeError, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class GateVerdict:
    status: str
    conditions: tuple[ConditionVerdict, ...]
    time: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    action: str
    rule: str
    because: str
    reason: str
    patch: Facts
    start_from: str
    time: str = ""


@dataclass(frozen=True, slots=True)
class MadeArtifact:
    who: str
    seed: int | None
    output: str
    kind: str
    digest: str
    path: str
    parents: tuple[str, ...] = ()
    tally: Tally | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    who: str
    seed: int | None
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class Twin:
    """The control as it was solved. off_by: relative distance from the candidate in the matched quantity."""

    candidate: Tally | None
    control: Tally | None
    match: str
    off_by: float | None
    patch: Facts


@dataclass(frozen=True, slots=True)
class Attempt:
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
        """Everyone with a cell or a measurement: the candidate, the control, then the rest by name."""
        names = {cell.who for cell in self.cells} | {one.who for one in self.measurements}
        return tuple(sorted(names, key=lambda who: (who != "candidate", who != "control", who)))

    def tally_of(self, who: str) -> Tally | None:
        """As counted in the artifact; as solved beforehand where no artifact is there yet."""
        for made in self.artifacts:
            if made.who == who and made.tally is not None:
                return made.tally
        if self.twin is not None:
            return {"candidate": self.twin.candidate, "control": self.twin.control}.get(who)
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
    """Why it never ran; empty where it did."""

    @property
    def last(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts else None

    @property
    def judged(self) -> Attempt | None:
        """The last attempt that has a verdict."""
        return next((one for one in reversed(self.attempts) if one.verdict is not None), None)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time in which one cell ran. ended: finished, interrupted, killed, or running (the log ends here)."""

    stage: str
    attempt: int
    who: str
    seed: int | None
    start: str
    end: str
    ended: str


@dataclass(frozen=True, slots=True)
class RunView:
    folder: Path
    header: Header
    registration: Registration | None
    amendments: tuple[Amendment, ...]
    stages: tuple[StageView, ...]
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

    @staticmethod
    def read(run_folder: Path) -> RunView:
        """Raises ArtifactError where the folder holds no run, its log is damaged, or an event lacks a field."""
        from bloomery.engine.events import FAULTS, read_events
        from bloomery.report.registrations import with_registrations
        from bloomery.report.replay import replay

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
            return replay(run_folder, events, place)
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
                condition.relative_to == "control"
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
        return tuple(
            one
            for one in self.amendments
            if any(key == name or key.startswith((f"{name}.", f"{name}[")) for key in one.changed for name in names)
        )
