"""Planned and spent, in words: one row for each thing that costs, with the cap where the plan has one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bloomery.report import wording
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


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
