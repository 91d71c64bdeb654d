"""What a party ended with: means over seeds, with the seeds' intervals or range, and each suite's main metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bloomery.report import wording
from bloomery.report.view import Attempt, RunView

NO_RESULT = frozenset({"cost", "tally", "train"})
"""Sources that are told elsewhere."""
MAIN_ENDINGS = ("/loss", "/all/accuracy", "/accuracy")


@dataclass(frozen=True, slots=True)
class Final:
    """Mean over seeds. low, high: the hull of the seeds' intervals, else the range over seeds, else the mean."""

    mean: float
    low: float
    high: float
    seeds: int
    by: str
    """interval, range, or empty where one seed without an interval is all there is."""


def final(attempt: Attempt, metric: str, who: str) -> Final | None:
    found = list(attempt.final(metric, who).values())
    if not found:
        return None
    values = [one.value for one in found]
    mean = sum(values) / len(values)
    intervals = [one.interval for one in found if one.interval is not None]
    if len(intervals) == len(found):
        low, high = min(one.low for one in intervals), max(one.high for one in intervals)
        return Final(mean, low, high, len(found), "interval")
    return Final(mean, min(values), max(values), len(found), "range" if len(found) > 1 else "")


def final_words(attempt: Attempt, metric: str, who: str) -> str:
    """`3.7150 (3.6530 … 3.7770)`"""
    found = final(attempt, metric, who)
    if found is None:
        return wording.NOTHING
    mean = wording.amount(metric, found.mean)
    if not found.by:
        return mean
    return f"{mean} ({wording.amount(metric, found.low)} … {wording.amount(metric, found.high)})"


def main_metrics(view: RunView, attempt: Attempt) -> tuple[str, ...]:
    """One metric a suite: what the gate asks of it, else its loss or accuracy, else the first that it measured."""
    measured = list(dict.fromkeys(one.name for one in attempt.measurements if one.step is None))
    asked = [one.metric for one in attempt.verdict.conditions] if attempt.verdict is not None else []
    if view.plan is not None:
        suites = list(view.plan.suites)
    else:
        suites = list(dict.fromkeys(name.split("/")[0] for name in measured if name in asked))
    chosen = (_main([name for name in measured if name.split("/")[0] == suite], asked) for suite in suites)
    return tuple(name for name in chosen if name)


def _main(names: Sequence[str], asked: Sequence[str]) -> str:
    wanted = [name for name in names if name in asked]
    for ending in MAIN_ENDINGS:
        wanted += [name for name in names if name.endswith(ending)]
    return next(iter([*wanted, *names]), "")


def all_finals(attempt: Attempt) -> tuple[tuple[str, str, float, str], ...]:
    """(metric, who, mean over seeds, spread in words); costs, sizes and training losses are told elsewhere."""
    names = dict.fromkeys(one.name for one in attempt.measurements if one.name.split("/")[0] not in NO_RESULT)
    out: list[tuple[str, str, float, str]] = []
    for metric in names:
        for who in attempt.whos():
            values = [found.value for found in attempt.final(metric, who).values()]
            if values:
                spread = f" ± {(max(values) - min(values)) / 2:.2g}" if len(values) > 1 else ""
                out.append((metric, who, sum(values) / len(values), spread))
    return tuple(out)
