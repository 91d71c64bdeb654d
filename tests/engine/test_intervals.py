"""Intervals against published tables, closed forms, the bootstrap, and their own promise: coverage."""

import math
from dataclasses import replace
from statistics import NormalDist, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.engine.intervals import (
    exact_mean,
    items_interval,
    mean_interval,
    normal_quantile,
    paired_interval,
    student_quantile,
    unpaired_interval,
    wilson_interval,
)
from bloomery.measure import Interval, Items

# NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2, critical values of Student's t (upper tail)
T_TABLE = {
    0.90: {1: 3.078, 2: 1.886, 3: 1.638, 5: 1.476, 10: 1.372, 30: 1.310, 100: 1.290},
    0.95: {1: 6.314, 2: 2.920, 3: 2.353, 5: 2.015, 10: 1.812, 30: 1.697, 100: 1.660},
    0.975: {1: 12.706, 2: 4.303, 3: 3.182, 5: 2.571, 10: 2.228, 30: 2.042, 100: 1.984},
    0.99: {1: 31.821, 2: 6.965, 3: 4.541, 5: 3.365, 10: 2.764, 30: 2.457, 100: 2.364},
    0.995: {1: 63.657, 2: 9.925, 3: 5.841, 5: 4.032, 10: 3.169, 30: 2.750, 100: 2.626},
    0.999: {2: 22.327, 3: 10.215, 5: 5.893, 10: 4.144, 30: 3.385, 100: 3.174},
}


@pytest.mark.parametrize("probability", T_TABLE)
def test_student_quantiles_are_those_of_the_published_table(probability: float) -> None:
    for degrees, value in T_TABLE[probability].items():
        assert student_quantile(probability, degrees) == pytest.approx(value, abs=6e-4)


@given(st.floats(0.0005, 0.9995))
def test_student_quantiles_have_their_closed_forms(p: float) -> None:
    assert student_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-8, abs=1e-12)
    closed = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    assert student_quantile(p, 2) == pytest.approx(closed, rel=1e-8, abs=1e-12)
    assert student_quantile(p, 1e6) == pytest.approx(NormalDist().inv_cdf(p), rel=1e-4, abs=1e-6)
    assert student_quantile(1 - p, 7) == pytest.approx(-student_quantile(p, 7), rel=1e-8, abs=1e-12)


def test_student_narrows_towards_the_normal() -> None:
    quantiles = [student_quantile(0.975, degrees) for degrees in (1, 2, 3, 4, 8, 16, 100, 10_000, 1e8)]
    assert quantiles == sorted(quantiles, reverse=True)
    assert quantiles[-1] == pytest.approx(normal_quantile(0.975))
    assert quantiles[-1] == pytest.approx(1.959964, abs=1e-6)
    for bad in ((0.0, 3), (1.0, 3), (0.5, 0), (float("nan"), 3)):
        with pytest.raises(ValueError, match="no t quantile"):
            student_quantile(*bad)


def test_wilson_gives_the_published_intervals() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score, without continuity correction)
    published = ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718))
    for successes, n, low, high in published:
        found = wilson_interval(successes, n)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 400), st.data(), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_is_the_inverted_score_test(n: int, data: st.DataObject, level: float) -> None:
    successes = data.draw(st.integers(0, n))
    found, share = wilson_interval(successes, n, level), successes / n
    assert 0 <= found.low <= share <= found.high <= 1
    z = normal_quantile((1 + level) / 2)
    for bound in (found.low, found.high):
        if 0 < bound < 1:
            assert abs(share - bound) / math.sqrt(bound * (1 - bound) / n) == pytest.approx(z, rel=1e-6)


def test_wilson_lower_bound_of_the_gate_in_the_example_plan() -> None:
    """98 % with 95 % confidence (one-sided) of 500 prompts takes 496: examples say so."""
    assert wilson_interval(496, 500, 0.90).low >= 0.98 > wilson_interval(495, 500, 0.90).low


def test_mean_interval_is_the_textbook_one() -> None:
    # Student's sleep data (Biometrika 6, 1908; R's `sleep`, extra hours, group 2 - 1): 95 % [0.7001, 2.4599]
    values = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    found = mean_interval(values)
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.7001142, abs=1e-6), pytest.approx(2.4598858, abs=1e-6))
    assert mean_interval([1.0]) is None
    assert mean_interval([2.0, 2.0, 2.0]) is None
    assert mean_interval([0.1 + 0.2, 0.3, 0.3]) is None, "rounding is no spread"


def items(sums: object, weights: object = None, key: str = "k") -> Items:
    values = np.asarray(sums, dtype=float)
    shares = np.ones_like(values) if weights is None else np.asarray(weights, dtype=float)
    return Items(key, tuple(values.tolist()), tuple(shares.tolist()))


def test_equal_weights_reduce_to_the_ordinary_t_interval() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(3, 1, 40), random.normal(3, 1, 40)
    own = items_interval([items(x * 7, np.full(40, 7.0))])
    textbook = mean_interval(x.tolist())
    assert own is not None
    assert textbook is not None
    assert (own.low, own.high) == (pytest.approx(textbook.low), pytest.approx(textbook.high))
    paired, textbook = paired_interval([(items(x), items(y))], "difference"), mean_interval((x - y).tolist())
    assert paired is not None
    assert textbook is not None
    assert (paired.low, paired.high) == (pytest.approx(textbook.low), pytest.approx(textbook.high))
    half = (paired.high - paired.low) / 2
    assert half == pytest.approx(student_quantile(0.975, 39) * stdev((x - y).tolist()) / math.sqrt(40))


def documents(random: np.random.Generator, n: int, seeds: int, shift: float) -> list[tuple[Items, Items]]:
    """Losses of two models on the same documents: lengths differ, difficulty is shared, seeds are near each other."""
    tokens = np.ceil(random.lognormal(5, 0.8, n))
    difficulty = random.normal(3.7, 0.5, n)
    own = random.normal(shift, 0.15, n)
    pairs: list[tuple[Items, Items]] = []
    for _ in range(seeds):
        a = (difficulty + own + random.normal(0, 0.05, n)) * tokens
        b = (difficulty + random.normal(0, 0.05, n)) * tokens
        pairs.append((items(a, tokens), items(b, tokens)))
    return pairs


@pytest.mark.parametrize("comparison", ["difference", "ratio"])
def test_paired_intervals_agree_with_the_bootstrap_over_documents(comparison: str) -> None:
    random = np.random.default_rng(1)
    pairs = documents(random, 400, 2, -0.02)
    picked = random.integers(0, 400, (4000, 400))
    statistics = np.zeros(4000)
    for a, b in pairs:
        top = np.array(a.sums)[picked].sum(1) / np.array(a.weights)[picked].sum(1)
        bottom = np.array(b.sums)[picked].sum(1) / np.array(b.weights)[picked].sum(1)
        statistics += (top - bottom if comparison == "difference" else top / bottom) / 2
    low, high = np.quantile(statistics, [0.025, 0.975])
    found = paired_interval(pairs, comparison)  # type: ignore[arg-type]
    assert found is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.08)
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def perplexities(pairs: list[tuple[Items, Items]]) -> list[tuple[Items, Items]]:
    return [(replace(a, exponential=True), replace(b, exponential=True)) for a, b in pairs]


def test_a_ratio_of_perplexities_is_exp_of_the_difference_of_losses() -> None:
    pairs = documents(np.random.default_rng(7), 60, 1, -0.08)
    found, losses = paired_interval(perplexities(pairs), "ratio"), paired_interval(pairs, "difference")
    assert found is not None
    assert losses is not None
    assert (found.low, found.high) == (pytest.approx(math.exp(losses.low)), pytest.approx(math.exp(losses.high)))
    assert losses.low < -0.08 < losses.high
    alone, loss = items_interval([perplexities(pairs)[0][0]]), items_interval([pairs[0][0]])
    assert alone is not None
    assert loss is not None
    assert (alone.low, alone.high) == (pytest.approx(math.exp(loss.low)), pytest.approx(math.exp(loss.high)))
    # What both find hard cancels; taken as independent it would not.
    b = items_interval([perplexities(pairs)[0][1]])
    assert b is not None
    top, bottom = (math.exp(sum(one.sums) / sum(one.weights)) for one in pairs[0])
    apart = unpaired_interval(top, alone, bottom, b, "ratio")
    assert apart is not None
    assert apart.high - apart.low > 3 * (found.high - found.low)


@pytest.mark.parametrize("comparison", ["difference", "ratio"])
def test_paired_perplexities_agree_with_the_bootstrap_over_documents(comparison: str) -> None:
    random = np.random.default_rng(8)
    pairs = documents(random, 400, 3, -0.05)
    picked = random.integers(0, 400, (4000, 400))
    statistics = np.zeros(4000)
    for a, b in pairs:
        top = np.exp(np.array(a.sums)[picked].sum(1) / np.array(a.weights)[picked].sum(1))
        bottom = np.exp(np.array(b.sums)[picked].sum(1) / np.array(b.weights)[picked].sum(1))
        statistics += (top - bottom if comparison == "difference" else top / bottom) / 3
    low, high = np.quantile(statistics, [0.025, 0.975])
    found = paired_interval(perplexities(pairs), comparison)  # type: ignore[arg-type]
    assert found is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.1)
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def test_perplexities_that_are_no_numbers_or_stand_beside_losses_have_no_interval() -> None:
    ((a, b),) = documents(np.random.default_rng(9), 20, 1, 0)
    ((large, other),) = perplexities([(a, b)])
    assert paired_interval([(large, b)], "ratio") is None
    assert items_interval([replace(large, sums=tuple(300 * x for x in large.sums))]) is None
    assert paired_interval([(large, replace(other, sums=tuple(300 * x for x in other.sums)))], "ratio") is None
    wild = Items("k", (0.0, 140.0), (1.0, 1.0), exponential=True)
    assert items_interval([wild]) is None


def test_a_single_ratio_estimator_agrees_with_the_bootstrap() -> None:
    random = np.random.default_rng(2)
    ((a, _),) = documents(random, 300, 1, 0)
    picked = random.integers(0, 300, (4000, 300))
    statistics = np.array(a.sums)[picked].sum(1) / np.array(a.weights)[picked].sum(1)
    low, high = np.quantile(statistics, [0.025, 0.975])
    found = items_interval([a])
    assert found is not None
    assert found.high - found.low == pytest.approx(high - low, rel=0.08)


def test_paired_intervals_keep_their_promise() -> None:
    """Of 400 samples of 60 documents, about 95 % of the intervals hold the true difference, here known exactly."""
    random = np.random.default_rng(3)
    held = {"difference": 0, "ratio": 0}
    for _ in range(400):
        pairs = documents(random, 60, 2, -0.02)
        for comparison, truth in (("difference", -0.02), ("ratio", 3.68 / 3.7)):
            found = paired_interval(pairs, comparison)  # type: ignore[arg-type]
            assert found is not None
            held[comparison] += found.low <= truth <= found.high
    assert all(0.91 <= count / 400 <= 0.985 for count in held.values()), held


def test_pairing_removes_what_both_find_hard() -> None:
    pairs = documents(np.random.default_rng(4), 200, 1, -0.02)
    paired = paired_interval(pairs, "difference")
    a, b = items_interval([pairs[0][0]]), items_interval([pairs[0][1]])
    assert paired is not None
    assert a is not None
    assert b is not None
    apart = unpaired_interval((a.low + a.high) / 2, a, (b.low + b.high) / 2, b, "difference")
    assert apart is not None
    assert apart.high - apart.low > 3 * (paired.high - paired.low)


def test_more_seeds_over_the_same_documents_are_not_more_documents() -> None:
    pairs = documents(np.random.default_rng(5), 100, 1, 0)
    once, four = paired_interval(pairs, "difference"), paired_interval(pairs * 4, "difference")
    assert once is not None
    assert four is not None
    assert (four.low, four.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_few_disagreements_between_right_and_wrong_do_not_give_certainty() -> None:
    same = items([1.0] * 9 + [0.0])
    found = paired_interval([(same, same)], "difference")
    assert found is not None
    assert found.low < -0.1 < 0.1 < found.high
    # Bonett & Price 2012, eq. 4, with t in the place of z: n = 200, 12 and 4 discordant
    n, only_a, only_b = 200, 12, 4
    a = items([1.0] * only_a + [0.0] * only_b + [1.0] * 100 + [0.0] * 84)
    b = items([0.0] * only_a + [1.0] * only_b + [1.0] * 100 + [0.0] * 84)
    p, q = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
    half = student_quantile(0.975, n + 1) * math.sqrt((p + q - (p - q) ** 2) / (n + 1))
    found = paired_interval([(a, b)], "difference")
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(p - q - half), pytest.approx(p - q + half))


def test_paired_shares_keep_their_promise_where_disagreement_is_rare() -> None:
    random = np.random.default_rng(6)
    held = {"difference": 0, "ratio": 0}
    for _ in range(500):
        both = random.random(80) < 0.9
        flip = random.random(80)
        a = np.where(flip < 0.03, 1 - both, both)
        found = {how: paired_interval([(items(a), items(both))], how) for how in ("difference", "ratio")}  # type: ignore[arg-type]
        truth = 0.9 * 0.97 + 0.1 * 0.03
        for how, value in (("difference", truth - 0.9), ("ratio", truth / 0.9)):
            interval = found[how]
            assert interval is not None
            held[how] += interval.low <= value <= interval.high
    assert all(count / 500 >= 0.93 for count in held.values()), held


def test_yes_no_items_get_the_wilson_interval_whatever_the_number_of_seeds() -> None:
    a, b = items([1.0] * 9 + [0.0]), items([1.0] * 8 + [0.0] * 2)
    assert items_interval([a]) == wilson_interval(9, 10)
    assert items_interval([a, b]) == wilson_interval(8.5, 10)


def test_difference_of_two_shares_is_newcombe_s_square_and_add() -> None:
    # Newcombe 1998, Statistics in Medicine 17:873, table II, method 10: 56/70 - 48/80, [0.0524, 0.3339]
    a, b = wilson_interval(56, 70), wilson_interval(48, 80)
    found = unpaired_interval(56 / 70, a, 48 / 80, b, "difference")
    assert found is not None
    assert (found.low, found.high) == (pytest.approx(0.0524, abs=5e-5), pytest.approx(0.3339, abs=5e-5))


@given(st.floats(0.5, 20), st.floats(0.5, 20), st.floats(0.001, 0.05), st.floats(0.001, 0.05))
def test_ratio_of_two_sure_values_is_the_delta_method(a: float, b: float, da: float, db: float) -> None:
    found = unpaired_interval(a, Interval(a * (1 - da), a * (1 + da)), b, Interval(b * (1 - db), b * (1 + db)), "ratio")
    assert found is not None
    half = a / b * math.hypot(da, db)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.02)
    assert found.low < a / b < found.high


@given(
    st.lists(st.tuples(st.floats(1, 9), st.floats(1, 9), st.floats(1, 500)), min_size=3, max_size=30),
    st.floats(0.01, 100),
    st.floats(0.01, 100),
)
@settings(max_examples=60)
def test_units_of_sums_and_weights_do_not_matter(rows: list[tuple[float, float, float]], by: float, of: float) -> None:
    x, y, w = (np.array(column) for column in zip(*rows, strict=True))
    plain, scaled = (
        paired_interval([(items(x * w * s, w * t), items(y * w * s, w * t))], "ratio") for s, t in ((1, 1), (by, of))
    )
    if plain is None or scaled is None:
        return
    assert (scaled.low, scaled.high) == (pytest.approx(plain.low, rel=1e-6), pytest.approx(plain.high, rel=1e-6))


def test_refuses_what_has_no_spread_or_is_not_paired() -> None:
    x = items([3.0, 4.0, 5.0], [1.0, 2.0, 1.0])
    assert paired_interval([(x, items([3.0, 4.0, 5.0], key="other"))], "difference") is None
    assert paired_interval([(x, items([3.0, 4.0]))], "difference") is None
    assert paired_interval([(x, x)], "difference") is None
    assert paired_interval([(x, items([0.0, 0.0, 0.0], [1.0, 2.0, 1.0]))], "ratio") is None
    assert paired_interval([], "difference") is None
    assert items_interval([items([3.0])]) is None
    assert items_interval([items([1.0])]) is None
    assert items_interval([items([3.0, 6.0], [1.0, 2.0])]) is None
    assert items_interval([items([], [])]) is None
    assert items_interval([items([1.0, 2.0], [0.0, 0.0])]) is None
    assert items_interval([items([1.0, 2.0], [3.0, -1.0])]) is None
    assert items_interval([items([1.0, float("nan")], [1.0, 1.0])]) is None
    assert unpaired_interval(1, Interval(0.9, 1.1), 0.1, Interval(-0.1, 0.3), "ratio") is None


def test_items_without_weight_do_not_count() -> None:
    x, w = [3.0, 8.0, 2.0], [1.0, 2.0, 1.0]
    padded = items([*x, *[0.0] * 50], [*w, *[0.0] * 50])
    assert items_interval([padded]) == items_interval([items(x, w)])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9), st.randoms())
def test_the_mean_does_not_depend_on_the_order(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert exact_mean(shuffled) == exact_mean(values)
    assert exact_mean([values[0]] * 7) == values[0]
