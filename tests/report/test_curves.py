import numpy as np
import pytest

from bloomery.report import curves
from bloomery.report.facts import Cell, Point
from bloomery.report.view import Attempt


def attempt(**losses):
    cells = [
        Cell(who, seed, "finished", points=tuple(Point(i, i * 100.0, loss) for i, loss in enumerate(values)))
        for who, by_seed in losses.items()
        for seed, values in enumerate(by_seed)
    ]
    return Attempt(1, cells=tuple(cells))


def test_mean_and_range_over_seeds():
    curve = curves.curve(attempt(candidate=[[4.0, 3.0, 2.0], [5.0, 3.0, 1.0]]), "candidate")
    assert curve.tokens.tolist() == [0, 100, 200]
    assert curve.mean.tolist() == [4.5, 3.0, 1.5]
    assert curve.low.tolist() == [4.0, 3.0, 1.0]
    assert curve.high.tolist() == [5.0, 3.0, 2.0]


def test_a_seed_that_stopped_early_does_not_go_on():
    curve = curves.curve(attempt(candidate=[[4.0, 3.0, 2.0], [6.0, 5.0]]), "candidate")
    assert curve.mean.tolist() == [5.0, 4.0, 2.0]


def test_thinning_keeps_the_mean_and_the_ends():
    values = np.random.default_rng(0).normal(size=1400)
    curve = curves.curve(attempt(candidate=[values]), "candidate")
    assert len(curve.mean) == curves.MOST_POINTS
    assert curve.mean.mean() == pytest.approx(values.mean())
    assert curve.tokens[-1] == 139_900


def test_difference_is_paired_by_seed_and_step():
    shared = np.random.default_rng(0).normal(size=(2, 30))
    both = attempt(candidate=shared - 0.03, control=shared)
    difference = curves.difference(both)
    assert difference.mean == pytest.approx(np.full(30, -0.03))
    assert curves.difference(attempt(candidate=shared)) is None


def test_without_points_there_is_no_curve():
    assert curves.curve(attempt(candidate=[[4.0]]), "candidate") is None
    assert curves.curve(attempt(candidate=[[float("nan")] * 5]), "candidate") is None
