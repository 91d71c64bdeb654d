"""The plan's claims and their answers: refuted ones first, then undecided, supported, and what nobody has tested."""

from __future__ import annotations

from bloomery.report import wording
from bloomery.report.facts import Claimed, ConditionVerdict
from bloomery.report.grid import Grid
from bloomery.report.view import RunView
from bloomery.report.wording import NOTHING

WORST_FIRST = ("refuted", "undecided", "supported", "untested")
TONES = {"refuted": "fail", "undecided": "inconclusive", "supported": "pass", "untested": ""}
SIGNS = {"refuted": "✗", "undecided": "≈", "supported": "✓", "untested": "?"}
HEADER = ("claim", "answer", "says", "asked", "value", "interval", "n", "what it would need", "source", "ledger")


def in_order(view: RunView) -> tuple[Claimed, ...]:
    """Among equals in the order of the plan."""

    def rank(one: Claimed) -> int:
        return WORST_FIRST.index(one.status) if one.status in WORST_FIRST else 1

    return tuple(sorted(view.claims, key=rank))


def conditions(claim: Claimed) -> tuple[ConditionVerdict, ...]:
    return claim.verdict.conditions if claim.verdict is not None else ()


def validity(claim: Claimed) -> tuple[ConditionVerdict, ...]:
    return claim.valid.conditions if claim.valid is not None else ()


def asked_words(claim: Claimed, one: ConditionVerdict) -> str:
    """A condition with whose it is: a claim speaks of a stage."""
    return f"{claim.of.removeprefix('stage:')}: {wording.asked(one)}" if claim.of else wording.asked(one)


def need_words(claim: Claimed) -> str:
    """What would decide it; empty where it is decided."""
    if claim.status == "untested":
        return "a run that comes to its end"
    return claim.would_need


def claim_grid(view: RunView) -> Grid | None:
    """None where the plan makes no claims. One row a condition; a claim without any has one row."""
    rows: list[tuple[str, ...]] = []
    tones: list[str] = []
    for claim in in_order(view):
        several = conditions(claim) or (None,)
        for place, one in enumerate(several):
            first = place == 0
            found = (NOTHING,) * 4 if one is None else (
                asked_words(claim, one), wording.condition_value(one),
                wording.interval(one.interval, sign=one.difference), NOTHING if one.n is None else f"{one.n:,}",
            )  # fmt: skip
            rest = (need_words(claim) or NOTHING, claim.source or NOTHING, ", ".join(claim.rows) or NOTHING)
            rows.append((claim.id, claim.status, claim.says if first else "", *found, *(rest if first else ("",) * 3)))
            tones.append(TONES.get(claim.status, ""))
    return Grid("Claims", "Claims of the plan", HEADER, tuple(rows), tuple(tones)) if rows else None


def count_words(view: RunView) -> str:
    """`1 refuted, 2 undecided, 1 supported`; empty without claims."""
    counts = {status: sum(one.status == status for one in view.claims) for status in WORST_FIRST}
    return ", ".join(f"{number} {status}" for status, number in counts.items() if number)
