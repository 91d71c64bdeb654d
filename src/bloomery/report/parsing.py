"""One event -> one fact. Whatever an event lacks has its empty value; non-finite numbers are read back from text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.measure import Interval, Tally
from bloomery.report.facts import (
    Choice,
    Claimed,
    ConditionVerdict,
    Decision,
    Facts,
    GateVerdict,
    Header,
    MadeArtifact,
    Point,
    Registration,
    Sweep,
    Twin,
)


def facts(event: Facts) -> dict[str, Any]:
    return {key: value for key, value in event.items() if key not in ("event", "time")}


def text(event: Facts, key: str, default: str = "") -> str:
    return str(event.get(key) or default)


def number(value: Any) -> float | None:
    """Non-finite numbers are written as strings, as JSON has none."""
    return None if value is None or value == "" else float(value)


def header(event: Facts, before: Header) -> Header:
    overrides = event.get("overrides") or {}
    if not isinstance(overrides, Mapping):
        overrides = dict(str(one).split("=", 1) for one in overrides if "=" in str(one))
    return Header(
        run=text(event, "run"),
        plan=text(event, "plan"),
        digest=text(event, "digest"),
        source=text(event, "source"),
        mode=text(event, "mode"),
        overrides=overrides,
        argv=tuple(str(word) for word in event.get("argv") or ()),
        plan_text=text(event, "plan_text", before.plan_text),
        provenance=event.get("provenance") or {},
        opened=before.opened or text(event, "time"),
    )


def registration(event: Facts) -> Registration:
    return Registration(
        time=text(event, "time"),
        digest=text(event, "digest"),
        commit=text(event, "commit"),
        hypothesis=text(event, "hypothesis"),
        variable=text(event, "variable"),
        control=event.get("control"),
        prediction=event.get("prediction"),
        fail_conditions=event.get("fail_conditions"),
    )


def spent(event: Facts) -> dict[str, Any]:
    """What a cell cost, and its hashes, as far as they are said."""
    out: dict[str, Any] = {
        name: number(event[name]) for name in ("seconds", "tokens", "flops") if event.get(name) is not None
    }
    return {**out, "hashes": event["hashes"]} if event.get("hashes") else out


def twin(event: Facts) -> Twin:
    tallies = {who: Tally.from_json(event[who]) for who in ("candidate", "control") if event.get(who)}
    return Twin(
        tallies.get("candidate"), tallies.get("control"), text(event, "match"), number(event.get("off_by")),
        event.get("patch") or {},
    )  # fmt: skip


def point(event: Facts) -> Point:
    loss = number(event.get("loss"))
    rest = {name: number(event.get(name)) for name in ("lr", "tokens_per_second", "gradient_norm")}
    return Point(int(event["step"]), float(event.get("tokens") or 0), float("nan") if loss is None else loss, **rest)


def artifact(event: Facts) -> MadeArtifact:
    return MadeArtifact(
        text(event, "who", "candidate"),
        event.get("seed"),
        text(event, "output"),
        text(event, "kind"),
        text(event, "digest"),
        text(event, "path"),
        tuple(event.get("parents") or ()),
        Tally.from_json(event["tally"]) if event.get("tally") else None,
    )


def decision(event: Facts) -> Decision:
    return Decision(
        action=text(event, "action"),
        rule=text(event, "rule"),
        because=text(event, "because"),
        reason=text(event, "reason"),
        patch=event.get("set") or {},
        start_from=text(event, "from"),
        time=text(event, "time"),
    )


def verdict(event: Facts, time: str = "") -> GateVerdict:
    conditions = tuple(condition_verdict(one) for one in event.get("conditions") or ())
    return GateVerdict(text(event, "status", "missing"), conditions, time, text(event, "reason"))


def condition_verdict(one: Facts) -> ConditionVerdict:
    asked, interval, seeds = one.get("condition") or {}, one.get("interval"), one.get("seeds") or ()
    return ConditionVerdict(
        condition=asked,
        words=str(one.get("words", "")),
        status=str(one.get("status", "missing")),
        metric=str(one.get("metric") or asked.get("metric") or ""),
        of=str(one.get("of") or asked.get("of") or "candidate"),
        relative_to=one.get("relative_to") or asked.get("relative_to"),
        value=number(one.get("value")),
        interval=Interval(*(float(bound) for bound in interval)) if interval else None,
        n=one.get("n"),
        seeds=tuple(seeds) if isinstance(seeds, Sequence) else (),
        values=tuple(float(value) for value in one.get("values") or ()),
        reference=number(one.get("reference")),
        candidate=number(one.get("candidate")),
        note=str(one.get("note") or ""),
        comparison=str(one.get("comparison") or ""),
        confidence=number(one.get("confidence")),
        alternative=one.get("alternative"),
    )


def choice(event: Facts) -> Choice:
    values = tuple(number(value) for value in event.get("values") or ())
    index = event.get("index")
    return Choice(text(event, "metric"), text(event, "better"), values, None if index is None else int(index))


def sweep(event: Facts) -> Sweep:
    trials = tuple(dict(point) for point in event.get("trials") or ())
    chosen = event.get("chosen")
    return Sweep(
        text(event, "who", "candidate"),
        event.get("seed"),
        trials,
        None if chosen is None else dict(chosen),
        choice(event),
    )


def claim(event: Facts) -> Claimed:
    return Claimed(
        id=text(event, "id"),
        says=text(event, "says"),
        source=text(event, "source"),
        rows=tuple(str(row) for row in event.get("rows") or ()),
        of=text(event, "of"),
        status=text(event, "status", "undecided"),
        reason=text(event, "reason"),
        would_need=text(event, "would_need"),
        verdict=verdict(event["verdict"]) if event.get("verdict") else None,
        valid=verdict(event["valid"]) if event.get("valid") else None,
    )
