"""Events in the order of the log. What comes later wins: a resumed cell writes its last points again.

It refuses nothing that a killed process can leave behind. An event with a name it does not know is a note, kept whole.
The reader takes the events one by one; parsing.py reads what stands in each, assembly.py makes the view of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bloomery.measure import Measurement
from bloomery.report import parsing
from bloomery.report.drafts import DraftAttempt, DraftLoop, DraftStage
from bloomery.report.facts import (
    Amendment,
    Best,
    Cell,
    Claimed,
    CycleEnd,
    Facts,
    GateVerdict,
    Header,
    Look,
    LoopEnd,
    Registration,
    Sample,
    Span,
)
from bloomery.report.parsing import number, text
from bloomery.report.view import Attempt

HELD = ("memory_bytes", "disk_bytes")
"""Of the process that ended last, and as it left the folder."""

AMOUNTS = ("tokens", "flops", "seconds", "money", "kwh")
"""`spent` lines are increments, `budget_spent` lines totals; after a kill the increments may be ahead."""

KEEPS_STATUS = frozenset({"run_finished", "interrupted", "budget_spent", "spent", "registered", "amended"})
"""Anything else, after a run ended or was interrupted, means that it goes on."""

NOT_HELD_OUT = frozenset({"train", "tally", "cost", "repeat"})
"""Sources whose metrics are no look at held-out data."""


class Reader:
    """What the events so far have said."""

    def __init__(self) -> None:
        self.header = Header()
        self.registration: Registration | None = None
        self.amendments: list[Amendment] = []
        self.stages: dict[str, DraftStage] = {}
        self.loops: dict[str, DraftLoop] = {}
        self.claims: dict[str, Claimed] = {}
        self.judged: dict[str, dict[str, Measurement]] = {}
        self.walks = 0
        self.patches: list[Facts] = []
        self.planned: Facts = {}
        self.spent: dict[str, float] = {}
        self.counted: dict[str, float] = {}
        self.spent_by: dict[tuple[str, str], dict[str, float]] = {}
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

    # The run

    def on_run_opened(self, event: Facts) -> None:
        self.header = parsing.header(event, self.header)

    def on_resumed(self, event: Facts) -> None:
        if "digest" in event:
            self.on_run_opened(event)

    def on_registered(self, event: Facts) -> None:
        self.registration = parsing.registration(event)

    def on_amended(self, event: Facts) -> None:
        changed = tuple(str(key) for key in event.get("changed") or ())
        self.amendments.append(
            Amendment(
                text(event, "time"), text(event, "why"), text(event, "before"), text(event, "after"), changed,
                self.results_seen,
            )
        )  # fmt: skip

    def on_data_ready(self, event: Facts) -> None:
        self.data = parsing.facts(event)

    def on_walk_started(self, event: Facts) -> None:
        self.walks = max(self.walks, int(event.get("walk", self.walks + 1)))
        self.patches = list(event.get("patches") or ())

    def on_interrupted(self, event: Facts) -> None:
        self.status, self.exit_code = "interrupted", None
        self.close_spans(str(event.get("time", "")), "interrupted")

    def on_run_finished(self, event: Facts) -> None:
        self.status, self.exit_code = str(event.get("status", "failed")), event.get("exit_code")
        self.reason = str(event.get("reason") or "")

    # What it costs

    def on_budget_planned(self, event: Facts) -> None:
        self.planned = parsing.facts(event)

    def on_budget_spent(self, event: Facts) -> None:
        self.spent = {name: number(event[name]) or 0.0 for name in (*AMOUNTS, *HELD) if event.get(name) is not None}

    def on_spent(self, event: Facts) -> None:
        tables = [self.counted]
        place = (text(event, "stage"), text(event, "who") or text(event, "doing"))
        if place[1]:
            tables.append(self.spent_by.setdefault(place, {}))
        for table in tables:
            for name in AMOUNTS:
                table[name] = table.get(name, 0.0) + (number(event.get(name)) or 0.0)

    # Stages and their cells

    def on_stage_started(self, event: Facts) -> None:
        stage, attempt = self.stage(event), self.attempt(event)
        stage.kind, stage.skipped = text(event, "kind", stage.kind), ""
        told = [str(cell["who"]) for cell in event.get("cells") or () if "who" in cell]
        attempt.planned = list(dict.fromkeys([*attempt.planned, *told]))
        attempt.value = replace(
            attempt.value,
            started=attempt.value.started or text(event, "time"),
            fingerprint=text(event, "fingerprint"),
        )

    def on_stage_skipped(self, event: Facts) -> None:
        self.stage(event).skipped = text(event, "why", "skipped")

    def on_twin_solved(self, event: Facts) -> None:
        attempt = self.attempt({"attempt": max(self.stage(event).attempts, default=1), **event})
        attempt.value = replace(attempt.value, twin=parsing.twin(event))

    def cell(self, event: Facts, **changes: Any) -> None:
        key = (str(event["who"]), event.get("seed"))
        cells = self.attempt(event).cells
        cells[key] = replace(cells.get(key, Cell(*key, state="running")), **changes)

    def on_cell_started(self, event: Facts) -> None:
        known = self.attempt(event).cells.get((str(event["who"]), event.get("seed")))
        self.cell(
            event,
            state="running",
            started=known.started if known and known.started else text(event, "time"),
            first_step=known.first_step if known else int(event.get("step") or 0),
            error="",
        )
        self.open_spans[_span_key(event)] = text(event, "time")

    def on_cell_reused(self, event: Facts) -> None:
        if not event.get("of"):
            self.cell(event, state="reused", **parsing.spent(event))
            return
        stage, number, who, seed = event["of"]
        source = (str(stage), int(number), str(who), seed)
        self.cell(event, state="reused", source=source, **parsing.spent(event))
        drafted = self.stages.get(source[0], DraftStage("")).attempts.get(source[1])
        if drafted is not None:
            self.attempt(event).inherit((str(event["who"]), event.get("seed")), drafted, source[2:])

    def on_cell_failed(self, event: Facts) -> None:
        self.cell(event, state="failed", finished=text(event, "time"), error=text(event, "error"))
        self.end_span(event, "failed")

    def on_cell_finished(self, event: Facts) -> None:
        self.cell(event, state="finished", finished=text(event, "time"), **parsing.spent(event))
        self.results_seen = True
        self.end_span(event, "finished")

    def end_span(self, event: Facts, ended: str) -> None:
        start = self.open_spans.pop(_span_key(event), None)
        if start is not None:
            self.spans.append(Span(*_span_key(event), start=start, end=text(event, "time"), ended=ended))

    def on_point(self, event: Facts) -> None:
        point = parsing.point(event)
        key = (str(event["who"]), event.get("seed"))
        self.attempt(event).points.setdefault(key, {})[point.step] = point

    def on_measured(self, event: Facts) -> None:
        one = Measurement.from_json(event["measurement"])
        self.attempt(event).measured[one.name, one.who, one.seed, one.step] = one
        if event.get("artifact") and one.who == event.get("who", one.who):  # not a rival that the suite brings
            self.judged.setdefault(str(event["artifact"]), {})[one.name] = one

    def on_artifact(self, event: Facts) -> None:
        made = parsing.artifact(event)
        self.attempt(event).artifacts[made.who, made.seed, made.output] = made

    def on_sample(self, event: Facts) -> None:
        through = f" through {event['codec']}" if "codec" in event else ""
        who = text(event, "who", "candidate") + through
        one = Sample(who, event.get("seed"), text(event, "prompt"), text(event, "text"))
        self.attempt(event).samples[one.who, one.seed, one.prompt] = one

    # What was chosen, judged and decided

    def on_sweep_chosen(self, event: Facts) -> None:
        found = parsing.sweep(event)
        self.attempt(event).sweeps[found.who] = found

    def on_candidate_chosen(self, event: Facts) -> None:
        attempt = self.attempt(event)
        attempt.candidate = text(event, "candidate")
        if event.get("arms"):
            best = Best(tuple(str(arm) for arm in event["arms"]), parsing.choice(event))
            attempt.value = replace(attempt.value, best=best)

    def on_verdict(self, event: Facts) -> None:
        attempt, verdict = self.attempt(event), parsing.verdict(event, text(event, "time"))
        attempt.value = replace(attempt.value, verdict=verdict)
        self.results_seen = True
        if looks_at_held_out(verdict):
            self.look(self.stage(event), attempt.value.number, verdict)

    def look(self, stage: DraftStage, attempt: int, verdict: GateVerdict) -> None:
        patches, amendments = stage.seen
        after = [_rule(patch, stage.id) for patch in self.patches[patches:]] if stage.looks else []
        late = sum(one.after_results for one in self.amendments[amendments:]) if stage.looks else 0
        after += ["an amendment"] * min(late, 1)
        stage.looks.append(Look(attempt, verdict.status, tuple(dict.fromkeys(after)), verdict.time))
        stage.seen = (len(self.patches), len(self.amendments))

    def on_decision(self, event: Facts) -> None:
        attempt = self.attempt(event)
        attempt.value = replace(attempt.value, decision=parsing.decision(event))

    def on_cycle_ended(self, event: Facts) -> None:
        end = CycleEnd(int(event["cycle"]), bool(event.get("kept")), text(event, "at"), text(event, "why"))
        self.loop(event).ends[end.number] = end

    def on_loop_ended(self, event: Facts) -> None:
        self.loop(event).end = LoopEnd(int(event.get("cycles") or 0), int(event.get("of") or 0), text(event, "why"))

    def loop(self, event: Facts) -> DraftLoop:
        return self.loops.setdefault(str(event["stage"]), DraftLoop(str(event["stage"])))

    def on_claim_judged(self, event: Facts) -> None:
        one = parsing.claim(event)
        self.claims[one.id] = one


def looks_at_held_out(verdict: GateVerdict) -> bool:
    """Whether anything but training, sizes and costs was measured for it: what failed on its way was not looked at."""
    return any(one.value is not None and one.metric.split("/")[0] not in NOT_HELD_OUT for one in verdict.conditions)


def _rule(patch: Facts, stage: str) -> str:
    """`rule more`, and of which stage where it is another one's."""
    name, at = f"rule {patch.get('rule', '')}", str(patch.get("stage") or "")
    return name if at in ("", stage) else f"{name} of {at}"


def _span_key(event: Facts) -> tuple[str, int, str, int | None]:
    return str(event["stage"]), int(event.get("attempt", 1)), str(event["who"]), event.get("seed")
