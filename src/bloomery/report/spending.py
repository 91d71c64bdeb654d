"""Planned and spent, in words: a row for each thing that costs, with the cap where the plan has one; and by whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bloomery.report import wording
from bloomery.report.facts import Facts
from bloomery.report.grid import Grid
from bloomery.report.view import RunView

QUANTITIES: tuple[tuple[str, str, str, Callable[[float], str]], ...] = (
    ("Tokens", "tokens", "tokens", wording.count),
    ("Compute", "flops", "flops", lambda value: wording.count(value, "FLOP")),
    ("Time", "seconds", "wall", wording.duration),
    ("Energy", "kwh", "kwh", lambda value: f"{value:.3g} kWh"),
    ("Money", "money", "money", lambda value: f"{value:.3g} USD"),
    ("Peak memory", "memory_bytes", "memory", wording.size),
    ("Run folder", "disk_bytes", "disk", wording.size),
)
"""(name, key of the ledger, key of the cap, how it is written)"""


@dataclass(frozen=True, slots=True)
class Spending:
    name: str
    planned: str
    spent: str
    cap: str
    share: float | None
    """Spent over the cap; where there is none, over the plan, which is an estimate."""
    capped: bool


def spending(view: RunView) -> tuple[Spending, ...]:
    """Only what was planned, spent or capped."""
    caps = view.planned.get("caps") or {}
    rows = []
    for name, key, cap_key, written in QUANTITIES:
        planned, spent, cap = _number(view.planned.get(key)), _number(view.spent.get(key)), _number(caps.get(cap_key))
        if not planned and not spent and cap is None:
            continue
        limit = planned if cap is None else cap
        words = [wording.NOTHING if value is None else written(value) for value in (planned, spent, cap)]
        share = spent / limit if spent is not None and limit else None
        rows.append(Spending(name, *words, share=share, capped=cap is not None))
    return tuple(rows)


def by_party(view: RunView) -> Grid | None:
    """Where it went: a row a party of each stage, all attempts together; trials of its sweep in a row of their own."""
    rows: list[tuple[str, ...]] = []
    total = sum(_number(one.get("seconds")) or 0.0 for one in view.spent_by.values())
    merged: dict[tuple[str, str, int], list[Facts]] = {}
    order = {stage.id: position for position, stage in enumerate(view.stages)}
    trials = {stage.id: stage.trials for stage in view.stages}
    for (stage, who), amounts in view.spent_by.items():
        party, _, trial = who.partition("~")
        merged.setdefault((stage, party, int(bool(trial))), []).append(amounts)
    for (stage, party, of_sweep), several in sorted(merged.items(), key=lambda one: order.get(one[0][0], len(order))):
        tokens, seconds, flops = (
            sum(_number(one.get(name)) or 0.0 for one in several) for name in ("tokens", "seconds", "flops")
        )
        who = wording.party(party)
        if of_sweep and stage in trials:
            who += f": {wording.several(trials[stage](party), 'trial')} of its sweep"
        share = f"{100 * seconds / total:.0f} %" if total else wording.NOTHING
        amounts = (wording.count(tokens), wording.duration(seconds), wording.count(flops))
        rows.append((stage or wording.NOTHING, who, *amounts, share))
    header = ("stage", "who", "tokens", "time", "FLOPs", "share of the time")
    caption = "Where it went, over all attempts, evaluation included; a trial that won is its party's first seed"
    return Grid("Spending", caption, header, tuple(rows)) if len(rows) > 1 else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
