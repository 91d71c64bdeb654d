"""What was judged after the run, as one table: exploratory, and never part of a verdict. The latest look counts."""

from __future__ import annotations

from collections.abc import Sequence

from bloomery.engine.exploratory import Evaluation, Finding, findings
from bloomery.report import wording
from bloomery.report.grid import Grid
from bloomery.report.view import RunView

HEADER = ("stage", "who", "metric", "value", "95 % interval", "n", "seeds")
CAPTION = "Exploratory evaluations: asked after the run by `bloomery eval`, and part of no verdict"


def evaluation_grid(view: RunView) -> Grid | None:
    """None where nothing was judged after the run."""
    latest: dict[tuple[str, int, str, str, str, int], Evaluation] = {}
    for one in view.evaluations:
        settings = wording.said(one.settings)
        latest[one.stage, one.attempt, one.who, one.suite, settings, one.seed] = one
    groups: dict[tuple[str, int, str, str, str], list[Evaluation]] = {}
    for key, one in latest.items():
        groups.setdefault(key[:-1], []).append(one)
    rows: list[tuple[str, ...]] = []
    remarks: dict[str, None] = {}
    for (stage, _, who, suite, settings), group in groups.items():
        rows += [(stage, wording.party(who), *_cells(one)) for one in findings(group)]
        remarks[f"{suite}: {group[0].kind}{f', {settings}' if settings != wording.NOTHING else ''}"] = None
    return Grid("Exploratory evaluations", CAPTION, HEADER, tuple(rows), remarks=tuple(remarks)) if rows else None


def _cells(one: Finding) -> tuple[str, ...]:
    bounds = wording.NOTHING
    if one.interval is not None:
        bounds = f"{_amount(one.metric, one.interval.low)} … {_amount(one.metric, one.interval.high)}"
    return one.metric, _amount(one.metric, one.value), bounds, f"{one.n:,}", str(len(one.seeds))


def _amount(metric: str, value: float | None) -> str:
    """As elsewhere, but fractions of a second are told in milliseconds."""
    if value is not None and abs(value) < 1 and wording.unit_of(metric) == "seconds":
        return f"{1000 * value:.3g} ms".replace("-", wording.MINUS)
    return wording.amount(metric, value)


def finding_grid(title: str, found: Sequence[Finding], other: str = "") -> Grid:
    """What `bloomery eval` prints. other: against whom, where differences were asked for."""
    header = HEADER[2:] + ((other, "difference", "95 % interval", "note") if other else ())
    rows: list[tuple[str, ...]] = []
    for one in found:
        more: tuple[str, ...] = ()
        if other:
            more = (
                _amount(one.metric, one.against),
                wording.fixed(one.difference, sign=True),
                wording.interval(one.difference_interval, sign=True).removesuffix(" (95 %)"),
                one.note,
            )
        rows.append((*_cells(one), *more))
    return Grid(title, title, header, tuple(rows))
