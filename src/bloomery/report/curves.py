"""Training curves as numbers to be drawn: thinned, averaged over seeds, paired between candidate and control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bloomery.report.facts import Cell, Point
from bloomery.report.view import Attempt

MOST_POINTS = 140


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean over seeds on a common grid of tokens, with the range over seeds; one entry a seed in `seeds`."""

    who: str
    tokens: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: dict[int | None, np.ndarray]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Held-out losses at fixed steps: mean over seeds, and the hull of the seeds' intervals over documents."""

    who: str
    metric: str
    tokens: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    seeds: dict[int | None, np.ndarray]


def curve(attempt: Attempt, who: str, quantity: str = "loss") -> Curve | None:
    """None without at least two finite points. Every drawn point is a mean over neighbouring recorded ones."""
    series = {}
    for cell in attempt.cells:
        if cell.who == who:
            tokens, values = _series(cell.points, quantity)
            if len(tokens) >= 2:
                series[cell.seed] = _thin(tokens, values)
    if not series:
        return None
    longest = max(series.values(), key=lambda pair: pair[0][-1])[0]
    lined = {
        seed: np.interp(longest, tokens, values, left=np.nan, right=np.nan) for seed, (tokens, values) in series.items()
    }
    stacked = np.stack(list(lined.values()))
    known = np.isfinite(stacked).sum(0)
    total = np.nansum(stacked, axis=0)
    mean = np.divide(total, known, out=np.full(len(longest), np.nan), where=known > 0)
    low, high = np.fmin.reduce(stacked, axis=0), np.fmax.reduce(stacked, axis=0)
    return Curve(who, longest, mean, low, high, lined)


def difference(attempt: Attempt, against: str = "control") -> Curve | None:
    """Training loss of the candidate minus another party, step by step on the same batches, seed by seed."""
    cells: dict[tuple[str, int | None], Cell] = {(cell.who, cell.seed): cell for cell in attempt.cells}
    series: dict[int | None, np.ndarray] = {}
    grid: np.ndarray | None = None
    for (who, seed), cell in cells.items():
        other = cells.get((against, seed))
        if who != attempt.candidate or other is None:
            continue
        theirs = {point.step: point.loss for point in other.points}
        both = [
            Point(point.step, point.tokens, point.loss - theirs[point.step])
            for point in cell.points
            if point.step in theirs
        ]
        tokens, values = _series(both, "loss")
        if len(tokens) >= 2:
            tokens, values = _thin(tokens, values, 40)
            grid = tokens if grid is None else grid
            series[seed] = np.interp(grid, tokens, values, left=np.nan, right=np.nan)
    if grid is None:
        return None
    stacked = np.stack(list(series.values()))
    known = np.isfinite(stacked).sum(0)
    mean = np.divide(np.nansum(stacked, axis=0), known, out=np.full(len(grid), np.nan), where=known > 0)
    return Curve(against, grid, mean, np.fmin.reduce(stacked, axis=0), np.fmax.reduce(stacked, axis=0), series)


def held_out_metric(attempt: Attempt) -> str | None:
    """The first loss that was measured along the way on data that was not trained on."""
    names = [one.name for one in attempt.measurements if one.step is not None and one.name.endswith("/loss")]
    return next((name for name in names if not name.startswith("train/")), None)


def held_out(attempt: Attempt, who: str, metric: str) -> HeldOut | None:
    """None where nobody of this name was evaluated along the way."""
    seeds = attempt.along(metric, who)
    steps = sorted({one.step for taken in seeds.values() for one in taken if one.step is not None})
    if not steps:
        return None
    values = {seed: {one.step: one for one in taken} for seed, taken in seeds.items()}
    rows = [[taken[step] for taken in values.values() if step in taken] for step in steps]
    return HeldOut(
        who,
        metric,
        tokens_at(attempt, who, steps),
        np.array([np.mean([one.value for one in row]) for row in rows]),
        np.array([min(one.interval.low if one.interval else one.value for one in row) for row in rows]),
        np.array([max(one.interval.high if one.interval else one.value for one in row) for row in rows]),
        {
            seed: np.array([taken[step].value if step in taken else np.nan for step in steps])
            for seed, taken in values.items()
        },
    )


def tokens_at(attempt: Attempt, who: str, steps: Sequence[int]) -> np.ndarray:
    """Tokens seen at these steps, by the recorded points; the steps themselves where there are none."""
    points = [point for cell in attempt.cells if cell.who == who for point in cell.points]
    last = max(points, key=lambda point: point.step, default=None)
    per_step = last.tokens / last.step if last is not None and last.step and last.tokens else 1.0
    return np.array(steps, dtype=float) * per_step


def _series(points: Sequence[Point], quantity: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(point.tokens or point.step, getattr(point, quantity)) for point in points]
    finite = [(tokens, value) for tokens, value in pairs if value is not None and np.isfinite(value)]
    tokens, values = zip(*finite, strict=True) if finite else ((), ())
    return np.array(tokens, dtype=float), np.array(values, dtype=float)


def _thin(tokens: np.ndarray, values: np.ndarray, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` points, each the mean over its neighbours; ends stay where they are."""
    if len(tokens) <= most:
        return tokens, values
    edges = np.linspace(0, len(tokens), most + 1).astype(int)
    thinned = np.add.reduceat(tokens, edges[:-1]) / np.diff(edges), np.add.reduceat(values, edges[:-1]) / np.diff(edges)
    thinned[0][[0, -1]] = tokens[[0, -1]]
    return thinned
