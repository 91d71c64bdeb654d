"""The claims ledger in words and as JSON: the same facts for the terminal, for pipes and for the Markdown page.

Nothing is shortened that decides: value, interval and n come from the judge's own record, with the commit it ran from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bloomery.report import summary, wording
from bloomery.report.claims import Answer, Loose, Standing, Stock
from bloomery.report.facts import ConditionVerdict

LINE_HEADER = (
    "id", "verdict", "system", "kind", "before", "mode", "run", "commit", "value", "interval", "n", "named by", "claim",
    "tested by", "worthless without", "why",
)  # fmt: skip
"""Columns of the plain lines, one row each, separated by tabs; what has no value is empty."""


def found(answer: Answer) -> str:
    """The condition that decided, with its numbers: `text/loss − control ≤ 0: 3.71 against 3.74 ..., n = 412`.

    Of a recorded verdict its value, as it stands on the page, and why."""
    if answer.recorded is not None:
        return ": ".join(part for part in (answer.recorded.value, answer.reason) if part)
    one = answer.deciding
    if one is None:
        return answer.reason
    text = wording.asked(one)
    if one.value is not None:
        text += f": {summary.numbers(one)}"
    others = len(answer.conditions) - 1
    text += f"; the first of {others + 1} conditions" if others else ""
    return f"{text}; {answer.reason}" if answer.reason else text


def needs(answer: Answer) -> str:
    return f"would need {answer.would_need}" if answer.would_need else ""


def origin(answer: Answer) -> str:
    """`run harmonic/claims, confirmatory, commit ec24291f0c`; `recorded in docs/results/k0.md, 2026-11-26`."""
    if answer.recorded is not None:
        return f"recorded {'in' if answer.recorded.page else 'by'} {answer.run}, {answer.time}"
    return f"run {answer.run}, {answer.mode or 'mode not recorded'}, commit {commit(answer) or 'not recorded'}"


def commit(answer: Answer) -> str:
    return wording.short(answer.commit) + (" with changes" if answer.commit and answer.changed else "")


def named_by(standing: Standing) -> str:
    """`harmonic/claims (sine-10x)`; empty where no bundled plan names the row."""
    return ", ".join(f"{one.plan} ({one.claim})" for one in standing.named_by)


def because(standing: Standing) -> str:
    """Why the verdict is as it is; of an untested row what it waits for."""
    if not standing.answers:
        return standing.waits_for
    return "; ".join(part for part in (standing.answers[0].reason, needs(standing.answers[0])) if part)


def line(standing: Standing) -> str:
    """One row of the ledger as one line, columns as in LINE_HEADER. The texts of the ledger hold no tabs."""
    row = standing.row
    first = standing.answers[0] if standing.answers else None
    return _tabbed(
        row.id, standing.verdict, row.system, row.kind, row.status, *_evidence(first), named_by(standing), row.claim,
        row.tested_by, row.control, because(standing),
    )  # fmt: skip


def loose_line(one: Loose) -> str:
    first = one.answers[0] if one.answers else None
    named = f"{one.plan} ({one.claim})"
    return _tabbed(
        "", one.verdict, "", "", "", *_evidence(first), named, one.says, one.source, "", first.reason if first else ""
    )


def _evidence(answer: Answer | None) -> tuple[str, ...]:
    if answer is None:
        return ("",) * 6
    if answer.recorded is not None:
        return answer.mode, answer.run, "", answer.recorded.value, "", ""
    one = answer.deciding
    if one is None or one.value is None:
        return answer.mode, answer.run, commit(answer), "", "", ""
    shown = wording.interval(one.interval, sign=one.difference) if one.interval is not None else ""
    return answer.mode, answer.run, commit(answer), wording.condition_value(one), shown, str(one.n or "")


def _tabbed(*cells: str) -> str:
    return "\t".join(" ".join(cell.split()) for cell in cells)


def to_json(stock: Stock, counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Everything: rows with their texts, the plans that name them, and every answer with all its conditions."""
    return {
        "runs": stock.runs,
        "counts": {system: dict(counted) for system, counted in counts.items()},
        "rows": [
            {
                **one.row.model_dump(mode="json"),
                "verdict": one.verdict,
                "disagree": one.disagree,
                "waits_for": one.waits_for,
                "named_by": [{"plan": named.plan, "claim": named.claim} for named in one.named_by],
                "answers": [_answer(answer) for answer in one.answers],
            }
            for one in stock.standings
        ],
        "without_a_row": [
            {
                "plan": one.plan,
                "claim": one.claim,
                "says": one.says,
                "source": one.source,
                "unknown_rows": list(one.unknown),
                "verdict": one.verdict,
                "disagree": one.disagree,
                "answers": [_answer(answer) for answer in one.answers],
            }
            for one in stock.loose
        ],
        "damaged": [{"run": run, "reason": reason} for run, reason in stock.damaged],
    }


def _answer(one: Answer) -> dict[str, Any]:
    first = _condition(one.deciding) if one.deciding else {}
    return {
        "run": one.run,
        "plan": one.plan,
        "mode": one.mode,
        "commit": one.commit,
        "changed": one.changed,
        "time": one.time,
        "claim": one.claim,
        "says": one.says,
        "source": one.source,
        "of": one.of,
        "status": one.status,
        "reason": one.reason,
        "would_need": one.would_need,
        **{key: first.get(key) for key in ("value", "interval", "n")},
        **({"value": one.recorded.value} if one.recorded else {}),
        "conditions": [_condition(condition) for condition in one.conditions],
        "valid": one.valid,
        "valid_conditions": [_condition(condition) for condition in one.valid_conditions],
    }


def _condition(one: ConditionVerdict) -> dict[str, Any]:
    between = one.interval
    return {
        "asked": wording.asked(one),
        "status": one.status,
        "metric": one.metric,
        "of": one.of,
        "relative_to": one.relative_to,
        "value": one.value,
        "interval": [between.low, between.high, between.level] if between else None,
        "n": one.n,
        "seeds": list(one.seeds),
        "values": list(one.values),
        "candidate": one.candidate,
        "reference": one.reference,
        "comparison": one.comparison,
        "note": one.note,
    }
