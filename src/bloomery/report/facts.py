"""What the events say, each as a frozen value: who ran, what was measured, chosen, judged, decided and claimed.

No sense is made of them here: view.py puts them together. A field that the log did not fill has its empty value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bloomery.measure import Interval, Tally

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
    """One seed of one party in one attempt. `state`: running, finished, failed, reused.

    A reused cell carries the curve and the cost of the cell it was taken from: of another attempt, or of the trial of a
    sweep that won."""

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
    error: str = ""
    """Why it failed."""
    source: tuple[str, int, str, int | None] | None = None
    """(stage, attempt, who, seed) of the cell that a reused one was taken from."""


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
    reason: str = ""
    """Beyond the conditions: what kept the stage from its end."""


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
class Choice:
    """By which metric something was chosen; `values` one for each that was offered, None where it has none."""

    metric: str
    better: str
    """lower or higher"""
    values: tuple[float | None, ...]
    index: int | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A party's search on the first seed. `trials`: the points that were tried, {path: value}, in the order written."""

    who: str
    seed: int | None
    trials: tuple[Facts, ...]
    chosen: Facts | None
    """None where no point gave a value."""
    choice: Choice


@dataclass(frozen=True, slots=True)
class Best:
    """How the best of several arms was chosen."""

    arms: tuple[str, ...]
    choice: Choice


@dataclass(frozen=True, slots=True)
class Look:
    """A time at which a stage's gate was judged on what was measured. `after`: rules and amendments since the last."""

    attempt: int
    status: str
    after: tuple[str, ...] = ()
    time: str = ""


@dataclass(frozen=True, slots=True)
class CycleEnd:
    """What became of one cycle of a loop. `at`: the stage that did not pass, as its author calls it."""

    number: int
    kept: bool
    at: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class LoopEnd:
    """`cycles` of at most `of` were kept."""

    cycles: int
    of: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim of the plan and its answer: supported, refuted or undecided; untested where no run has answered it."""

    id: str
    says: str
    source: str = ""
    rows: tuple[str, ...] = ()
    """Of the claims ledger."""
    of: str = ""
    status: str = "untested"
    reason: str = ""
    would_need: str = ""
    verdict: GateVerdict | None = None
    valid: GateVerdict | None = None
