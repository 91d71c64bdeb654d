"""Events in the order of the log -> RunView. What comes later wins: a resumed cell writes its last points again.

It refuses nothing that a killed process can leave behind. An event with a name it does not know is a note, kept whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bloomery.engine.events import FAULTS, illegible
from bloomery.measure import Interval, Measurement, Tally
from bloomery.report.drafts import DraftAttempt, DraftStage
from bloomery.report.view import (
    Amendment,
    Attempt,
    Cell,
    ConditionVerdict,
    Decision,
    Facts,
    GateVerdict,
    Header,
    MadeArtifact,
    Note,
    Point,
    Registration,
    RunView,
    Sample,
    Span,
    StageView,
    Twin,
)

QUIET = frozenset({"point", "measured", "sample", "budget_spent", "evaluated", "spent"})
"""Too many to be told one by one; the report draws or tabulates them."""

AMOUNTS = ("tokens", "flops", "seconds", "money", "kwh")
"""`spent` lines are increments, `budget_spent` lines totals; after a kill the increments may be ahead."""

HELD = ("memory_bytes", "disk_bytes")
"""Of the process that ended last, and as it left the folder."""

KEEPS_STATUS = frozenset({"run_finished", "interrupted", "budget_spent", "spent", "registered", "amended"})
"""Anything else, after a run ended or was interrupted, means that it goes on."""


class _Reader:
    def __init__(self) -> None:
        self.header = Header()
        self.registration: Registration | None = None
        self.amendments: list[Amendment] = []
        self.stages: dict[str, DraftStage] = {}
        self.walks = 0
        self.planned: Facts = {}
        self.spent: dict[str, float] = {}
        self.counted: dict[str, float] = {}
        self.data: Facts = {}
        self.status, self.exit_code, self.reason = "unfinished", None, ""
        self.results_seen = False
        self.spans: list[Span] = []
        self.open_spans: dict[tuple[str, int, str, int | None], str] = {}
        self.last_time = ""

    def take(self, event: Facts) -> None:
        name = str(event["event"])
        time = str(event.get("time", ""))
        if name in ("run_opened", "resumed"):
            self.close_spans(self.last_time, "killed")
        self.last_time = time or self.last_time
        handler = getattr(self, f"on_{name}", None)
        if handler is not None:
            handler(event)
        if name not in KEEPS_STATUS:
            self.status, self.exit_code, self.reason = "unfinished", None, ""

    def close_spans(self, end: str, ended: str) -> None:
        for key, start in self.open_spans.items():
            self.spans.append(Span(*key, start=start, end=end, ended=ended))
        self.open_spans.clear()

    def stage(self, event: Facts) -> DraftStage:
        return self.stages.setdefault(str(event["stage"]), DraftStage(str(event["stage"])))

    def attempt(self, event: Facts) -> DraftAttempt:
        number = int(event.get("attempt", 1))
        attempts = self.stage(event).attempts
        if number not in attempts:
            twin = next((one.value.twin for one in reversed(attempts.values()) if one.value.twin), None)
            attempts[number] = DraftAttempt(Attempt(number, twin=twin))
        return attempts[number]

    def on_run_opened(self, event: Facts) -> None:
        overrides = event.get("overrides") or {}
        if not isinstance(overrides, Mapping):
            overrides = dict(str(one).split("=", 1) for one in overrides if "=" in str(one))
        self.header = Header(
            run=str(event.get("run", "")),
            plan=str(event.get("plan", "")),
            digest=str(event.get("digest", "")),
            source=str(event.get("source") or ""),
            mode=str(event.get("mode", "")),
            overrides=overrides,
            argv=tuple(str(word) for word in event.get("argv") or ()),
            plan_text=str(event.get("plan_text") or self.header.plan_text),
            provenance=event.get("provenance") or {},
            opened=self.header.opened or str(event.get("time", "")),
        )

    def on_resumed(self, event: Facts) -> None:
        if "digest" in event:
            self.on_run_opened(event)

    def on_spent(self, event: Facts) -> None:
        for name in AMOUNTS:
            self.counted[name] = self.counted.get(name, 0.0) + (_number(event.get(name)) or 0.0)

    def on_registered(self, event: Facts) -> None:
        self.registration = Registration(
            time=str(event.get("time", "")),
            digest=str(event.get("digest", "")),
            commit=str(event.get("commit") or ""),
            hypothesis=str(event.get("hypothesis") or ""),
            variable=str(event.get("variable") or ""),
            control=event.get("control"),
            prediction=event.get("prediction"),
            fail_conditions=event.get("fail_conditions"),
        )

    def on_amended(self, event: Facts) -> None:
        self.amendments.append(
            Amendment(
                str(event.get("time", "")),
                str(event.get("why", "")),
                str(event.get("before") or ""),
                str(event.get("after") or ""),
                tuple(str(key) for key in event.get("changed") or ()),
                self.results_seen,
            )
        )

    def on_budget_planned(self, event: Facts) -> None:
        self.planned = _facts(event)

    def on_budget_spent(self, event: Facts) -> None:
        self.spent = {name: _number(event[name]) or 0.0 for name in (*AMOUNTS, *HELD) if event.get(name) is not None}

    def on_data_ready(self, event: Facts) -> None:
        self.data = _facts(event)

    def on_walk_started(self, event: Facts) -> None:
        self.walks = max(self.walks, int(event.get("walk", self.walks + 1)))

    def on_stage_started(self, event: Facts) -> None:
        stage, attempt = self.stage(event), self.attempt(event)
        stage.kind, stage.skipped = str(event.get("kind") or stage.kind), ""
        attempt.value = replace(
            attempt.value,
            started=attempt.value.started or str(event.get("time", "")),
            fingerprint=str(event.get("fingerprint") or ""),
        )

    def on_stage_skipped(self, event: Facts) -> None:
        stage = self.stage(event)
        if not stage.attempts:
            stage.skipped = str(event.get("why") or "skipped")

    def on_twin_solved(self, event: Facts) -> None:
        attempt = self.attempt({"attempt": max(self.stage(event).attempts, default=1), **event})
        tallies = {who: Tally.from_json(event[who]) for who in ("candidate", "control") if event.get(who)}
        match, off_by = str(event.get("match", "")), _number(event.get("off_by"))
        twin = Twin(tallies.get("candidate"), tallies.get("control"), match, off_by, event.get("patch") or {})
        attempt.value = replace(attempt.value, twin=twin)

    def cell(self, event: Facts, **changes: Any) -> None:
        key = (str(event["who"]), event.get("seed"))
        cells = self.attempt(event).cells
        cells[key] = replace(cells.get(key, Cell(*key, state="running")), **changes)

    def on_cell_started(self, event: Facts) -> None:
        known = self.attempt(event).cells.get((str(event["who"]), event.get("seed")))
        self.cell(
            event,
            state="running",
            started=known.started if known and known.started else str(event.get("time", "")),
            first_step=known.first_step if known else int(event.get("step") or 0),
        )
        self.open_spans[_span_key(event)] = str(event.get("time", ""))

    def on_cell_reused(self, event: Facts) -> None:
        self.cell(event, state="reused", **_spent(event))
        if not event.get("of"):
            return
        stage, number, who, seed = event["of"]
        source = self.stages.get(str(stage), DraftStage("")).attempts.get(int(number))
        if source is not None:
            self.attempt(event).inherit((str(event["who"]), event.get("seed")), source, (str(who), seed))

    def on_cell_failed(self, event: Facts) -> None:
        self.cell(event, state="failed", finished=str(event.get("time", "")))
        start = self.open_spans.pop(_span_key(event), None)
        if start is not None:
            self.spans.append(Span(*_span_key(event), start=start, end=str(event.get("time", "")), ended="failed"))

    def on_cell_finished(self, event: Facts) -> None:
        self.cell(event, state="finished", finished=str(event.get("time", "")), **_spent(event))
        self.results_seen = True
        start = self.open_spans.pop(_span_key(event), None)
        if start is not None:
            self.spans.append(Span(*_span_key(event), start=start, end=str(event.get("time", "")), ended="finished"))

    def on_point(self, event: Facts) -> None:
        loss = _number(event.get("loss"))
        key = (str(event["who"]), event.get("seed"))
        rest = {name: _number(event.get(name)) for name in ("lr", "tokens_per_second", "gradient_norm")}
        point = Point(
            int(event["step"]), float(event.get("tokens") or 0), float("nan") if loss is None else loss, **rest
        )
        self.attempt(event).points.setdefault(key, {})[point.step] = point

    def on_measured(self, event: Facts) -> None:
        one = Measurement.from_json(event["measurement"])
        self.attempt(event).measured[one.name, one.who, one.seed, one.step] = one

    def on_artifact(self, event: Facts) -> None:
        made = MadeArtifact(
            str(event.get("who", "candidate")),
            event.get("seed"),
            str(event.get("output", "")),
            str(event.get("kind", "")),
            str(event.get("digest", "")),
            str(event.get("path", "")),
            tuple(event.get("parents") or ()),
            Tally.from_json(event["tally"]) if event.get("tally") else None,
        )
        self.attempt(event).artifacts[made.who, made.seed, made.output] = made

    def on_sample(self, event: Facts) -> None:
        through = f" through {event['codec']}" if "codec" in event else ""
        one = Sample(
            str(event.get("who", "candidate")) + through,
            event.get("seed"),
            str(event.get("prompt", "")),
            str(event.get("text", "")),
        )
        self.attempt(event).samples[one.who, one.seed, one.prompt] = one

    def on_verdict(self, event: Facts) -> None:
        conditions = tuple(condition_verdict(one) for one in event.get("conditions") or ())
        attempt = self.attempt(event)
        attempt.value = replace(
            attempt.value,
            verdict=GateVerdict(str(event.get("status", "missing")), conditions, str(event.get("time", ""))),
        )
        self.results_seen = True

    def on_decision(self, event: Facts) -> None:
        attempt = self.attempt(event)
        attempt.value = replace(
            attempt.value,
            decision=Decision(
                str(event.get("action", "")),
                str(event.get("rule") or ""),
                str(event.get("because") or ""),
                str(event.get("reason") or ""),
                event.get("set") or {},
                str(event.get("from") or ""),
                str(event.get("time", "")),
            ),
        )

    def on_interrupted(self, event: Facts) -> None:
        self.status, self.exit_code = "interrupted", None
        self.close_spans(str(event.get("time", "")), "interrupted")

    def on_run_finished(self, event: Facts) -> None:
        self.status, self.exit_code = str(event.get("status", "failed")), event.get("exit_code")
        self.reason = str(event.get("reason") or "")


def replay(folder: Path, events: Sequence[Facts], place: Callable[[Facts], str] = lambda _: "events.jsonl") -> RunView:
    """All events of one run, oldest first. place: where one stands, for the ArtifactError that says what it lacks."""
    reader = _Reader()
    for event in events:
        try:
            reader.take(event)
        except FAULTS as error:
            raise illegible(event, place(event), error) from error
    reader.close_spans(reader.last_time, "running")
    return RunView(
        folder=folder,
        header=reader.header,
        registration=reader.registration,
        amendments=tuple(reader.amendments),
        stages=tuple(
            StageView(
                stage.id,
                stage.kind,
                tuple(attempt.freeze() for _, attempt in sorted(stage.attempts.items())),
                stage.skipped,
            )
            for stage in reader.stages.values()
        ),
        walks=reader.walks,
        planned=reader.planned,
        spent={
            name: max(reader.spent.get(name, 0.0), reader.counted.get(name, 0.0))
            for name in (*AMOUNTS, *HELD)
            if name in reader.spent or name in reader.counted
        },
        data=reader.data,
        timeline=tuple(
            Note(str(event.get("time", "")), str(event["event"]), _facts(event))
            for event in events
            if event["event"] not in QUIET
        ),
        spans=tuple(reader.spans),
        status=reader.status,
        exit_code=reader.exit_code,
        reason=reader.reason,
        updated=str(events[-1].get("time", "")) if events else "",
    )


def _span_key(event: Facts) -> tuple[str, int, str, int | None]:
    return str(event["stage"]), int(event.get("attempt", 1)), str(event["who"]), event.get("seed")


def _facts(event: Facts) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("event", "time")}


def _number(value: Any) -> float | None:
    """Non-finite numbers are written as strings, as JSON has none."""
    return None if value is None or value == "" else float(value)


def _spent(event: Facts) -> dict[str, Any]:
    out: dict[str, Any] = {
        name: _number(event[name]) for name in ("seconds", "tokens", "flops") if event.get(name) is not None
    }
    return {**out, "hashes": event["hashes"]} if event.get("hashes") else out


def condition_verdict(one: Facts) -> ConditionVerdict:
    asked, interval, seeds = one.get("condition") or {}, one.get("interval"), one.get("seeds") or ()
    return ConditionVerdict(
        condition=asked,
        words=str(one.get("words", "")),
        status=str(one.get("status", "missing")),
        metric=str(one.get("metric") or asked.get("metric") or ""),
        of=str(one.get("of") or asked.get("of") or "candidate"),
        relative_to=one.get("relative_to") or asked.get("relative_to"),
        value=_number(one.get("value")),
        interval=Interval(*(float(bound) for bound in interval)) if interval else None,
        n=one.get("n"),
        seeds=tuple(seeds) if isinstance(seeds, Sequence) else (),
        values=tuple(float(value) for value in one.get("values") or ()),
        reference=_number(one.get("reference")),
        candidate=_number(one.get("candidate")),
        note=str(one.get("note") or ""),
        comparison=str(one.get("comparison") or ""),
        confidence=_number(one.get("confidence")),
        alternative=one.get("alternative"),
    )
