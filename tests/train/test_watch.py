"""Spikes and plateaus on curves whose answer is known."""

import math
import random
import statistics

import pytest

from bloomery.train.watch import final_loss, plateau, spikes


def curve(steps: int, noise: float, seed: int = 0, end: float = 3.5) -> list[float]:
    draw = random.Random(seed)
    return [end + 4 * math.exp(-5 * step / steps) + draw.gauss(0, noise) for step in range(steps)]


def test_a_quiet_curve_has_no_spikes_and_each_jump_counts_once():
    losses = curve(600, 0.05)
    assert spikes(losses) == 0
    for start, length in ((200, 1), (300, 5), (450, 2)):
        for step in range(start, start + length):
            losses[step] += 2.0
    assert spikes(losses) == 3


def test_early_steps_and_small_jumps_are_no_spikes():
    losses = curve(300, 0.0)
    losses[10] += 5
    losses[200] += 0.15
    assert spikes(losses) == 0


@pytest.mark.parametrize("seed", range(8))
def test_flat_is_a_plateau_and_falling_is_not(seed):
    draw = random.Random(seed)
    flat = [3.5 + draw.gauss(0, 0.05) for _ in range(1000)]
    assert plateau(flat) == 1.0
    falling = [3.5 - 0.3 * step / 1000 + draw.gauss(0, 0.05) for step in range(1000)]  # 2.3 % in the last quarter
    assert plateau(falling) == 0.0
    assert plateau([loss + 0.001 * step for step, loss in enumerate(flat)]) == 1.0  # getting worse is not improving


def test_noise_that_hides_the_answer_and_short_runs_are_no_plateau():
    draw = random.Random(1)
    assert plateau([3.5 + draw.gauss(0, 2.0) for _ in range(200)]) == 0.0
    assert plateau([3.5] * 100) == 0.0
    assert plateau([3.5] * 128) == 1.0
    assert plateau([]) == 0.0


@pytest.mark.parametrize("scatter", [0.002, 0.01, 0.02])
def test_a_flat_run_is_told_as_often_as_its_noise_allows(scatter):
    """z = fall / its error is standard normal of a flat line, and it is told where z < 0.01 / error - 1."""
    steps, runs = 140, 400
    tail = steps // 4
    error = scatter * math.sqrt(12 * tail / (tail * tail - 1))
    expected = statistics.NormalDist().cdf(0.01 / error - 1)
    draw = random.Random(0)
    told = statistics.fmean(plateau([1 + draw.gauss(0, scatter) for _ in range(steps)]) for _ in range(runs))
    assert told == pytest.approx(expected, abs=4 * math.sqrt(0.25 / runs))


def test_final_loss_is_the_mean_of_the_last_twentieth():
    assert final_loss([9.0] * 95 + [1.0, 2.0, 3.0, 4.0, 5.0]) == 3.0
    assert final_loss([9.0, 2.0]) == 2.0
