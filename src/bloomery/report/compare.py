"""Runs side by side: a column a run, a row a fact. What a run has not is a dash, never a zero."""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.plan.cast import CANDIDATE, CONTROL
from bloomery.report import arms, cycles, summary, sweeps, wording
from bloomery.report.finals import all_finals
from bloomery.report.view import Attempt, RunView, StageView


def compare(views: Sequence[RunView]) -> tuple[tuple[str, ...], ...]:
    """Rows for `compare`, the first being the header; finals are means over seeds."""
    columns = [_column(view) for view in views]
    names = _merged([list(column) for column in columns])
    header = ("", *(view.header.run or view.folder.name for view in views))
    return (header, *((name, *(column.get(name, wording.NOTHING) for column in columns)) for name in names))


def _merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All names; one that only a later run has stands behind its neighbour there."""
    merged: list[str] = []
    for order in orders:
        place = 0
        for name in order:
            if name in merged:
                place = merged.index(name) + 1
            else:
                merged.insert(place, name)
                place += 1
    return merged


def _column(view: RunView) -> dict[str, str]:
    held = [one.condition.status == "pass" for one in summary.predictions(view)]
    column = {
        "status": wording.STATUS_WORDS.get(view.status, view.status),
        "mode": view.header.mode or wording.NOTHING,
        "plan digest": wording.short(view.header.digest),
        "predictions held": f"{sum(held)} of {len(held)}",
        "tokens": wording.count(_float(view.spent.get("tokens"))),
        "FLOPs": wording.count(_float(view.spent.get("flops"))),
        "time": wording.duration(_float(view.spent.get("seconds"))),
    }
    for stage in view.stages:
        if (attempt := stage.shown) is not None:
            column |= {f"{stage.id}: {name}": value for name, value in _of_stage(view, stage, attempt).items()}
    column |= {f"{loop.id}: cycles kept": cycles.kept_words(loop) for loop in view.loops if loop.stages or loop.ends}
    return column | {f"claim {claim.id}": claim.status for claim in view.claims}


def _of_stage(view: RunView, stage: StageView, attempt: Attempt) -> dict[str, str]:
    rows: dict[str, str] = {}
    if attempt.verdict is not None:
        rows["gate"] = wording.STATUS_WORDS.get(attempt.verdict.status, attempt.verdict.status)
    if stage.looks:
        rows["looks at held-out data"] = str(len(stage.looks))
    if attempt.arms:
        best = f", best of {len(attempt.arms)}" if attempt.best is not None else ""
        rows["candidate"] = f"{wording.party(attempt.candidate)}{best}" if attempt.candidate else "not chosen yet"
        rows["arms that failed"] = ", ".join(
            wording.party(who) for who in attempt.arms if arms.failure(attempt, who) is not None
        ) or "none"  # fmt: skip
    for sweep in attempt.sweeps:
        chosen = "nothing" if sweep.chosen is None else wording.said(sweep.chosen)
        edge = " (edge of the grid)" if sweeps.edges(sweep) else ""
        rows[f"swept by {wording.party(sweep.who)}"] = f"{chosen}{edge}"
    tally = attempt.tally_of(attempt.candidate)
    if tally is not None:
        rows["stored parameters"] = wording.count(tally.stored)
    for metric, who, mean, spread in all_finals(attempt):
        of = "" if who == CANDIDATE else f" of {wording.party(who)}"
        rows[f"{metric}{of}"] = wording.amount(metric, mean) + spread
    return rows | _relative(attempt)


def _relative(attempt: Attempt) -> dict[str, str]:
    """What the gate found of the candidate against its control and against other arms, with the interval."""
    judged = attempt.verdict.conditions if attempt.verdict is not None else ()
    out: dict[str, str] = {}
    for one in judged:
        if one.value is not None and (one.relative_to == CONTROL or one.relative_to in attempt.arms):
            between = f" {wording.MINUS} " if one.difference else " / "
            found = wording.condition_value(one)
            out[f"{one.metric}, {wording.party(one.of)}{between}{wording.party(one.relative_to)}"] = (
                f"{found} ({wording.interval(one.interval, sign=one.difference)})" if one.interval else found
            )
    return out


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float | str) else None
