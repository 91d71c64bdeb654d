"""Confidence intervals for means, shares, ratios and paired comparisons, in plain Python.

An Items value is a ratio estimator, A = sum(x) / sum(w), over items (documents, questions) taken as a sample. Its
error is linearised: item i has the residual r_i = (x_i - A w_i) / sum(w), and var(A) = n/(n-1) sum(r_i^2) (Cochran,
Sampling Techniques, 1977, 6.4). A difference of two such values over the same items has the residuals r_i - q_i, a
ratio A/B the residuals r_i/B - (A/B^2) q_i (delta method), so what both find hard cancels. Over several seeds the
statistic is the mean, and so are each item's residuals: seeds over the same items are not further items.

A perplexity is exp(A), of residuals exp(A) r_i. Its intervals, and those of a ratio of two, are laid around the
logarithm: with one seed that is exp of the interval of the loss, and of the difference of losses.

It refuses an interval (None) where there is nothing to estimate a spread from: fewer than two items or seeds, or values
that are all the same. All intervals are two-sided; for a one-sided bound at confidence c ask for the level 2c - 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import Final, Literal

from bloomery.measure import Interval, Items

Comparison = Literal["ratio", "difference"]
ROUNDING: Final = 1e-12
"""A standard error below this share of the values is rounding, not spread."""
LARGEST_EXPONENT: Final = 700
"""Nats beyond which a perplexity is no number."""


def normal_quantile(probability: float) -> float:
    """The standard normal value below which lies this probability (0 < probability < 1)."""
    return NormalDist().inv_cdf(probability)


@lru_cache(maxsize=4096)
def student_quantile(probability: float, degrees: float) -> float:
    """Student's t value below which lies this probability, for `degrees` of freedom; to about 1e-10, by bisection."""
    if not 0 < probability < 1 or not degrees > 0:
        raise ValueError(f"no t quantile for probability {probability} and {degrees} degrees of freedom")
    if probability < 0.5:
        return -student_quantile(1 - probability, degrees)
    if probability == 0.5:
        return 0.0
    if degrees > 1e7:
        return normal_quantile(probability)
    tail, low, high = 1 - probability, 0.0, 2.0
    while _student_tail(high, degrees) > tail:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if _student_tail(middle, degrees) > tail else (low, middle)
    return (low + high) / 2


def _student_tail(t: float, degrees: float) -> float:
    """P(T > t) for t >= 0 (Abramowitz & Stegun 26.5.27)."""
    return 0.5 * _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """I_x(a, b), regularised, by the continued fraction DLMF 8.17.22 with Lentz's method."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _beta_fraction(a, b, x) / a
    return 1 - front * _beta_fraction(b, a, 1 - x) / b


def _beta_fraction(a: float, b: float, x: float) -> float:
    tiny = 1e-300
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > tiny else tiny)
    result = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = 1 + term * d, 1 + term / c
            d = 1 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            result *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return result


def wilson_interval(successes: float, n: float, level: float = 0.95) -> Interval:
    """A share of `successes` in n independent trials (Wilson 1927): inside [0, 1], sound at 0 and 1 and at small n."""
    if not n > 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials")
    z = normal_quantile((1 + level) / 2)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(min(low, share), max(high, share), level)


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """The mean of independent values, such as seeds: mean +- t(n-1) s / sqrt(n) (Student 1908)."""
    n = len(values)
    if n < 2:
        return None
    mean = exact_mean(values)
    error = math.sqrt(math.fsum((value - mean) * (value - mean) for value in values) / (n - 1) / n)
    return _around(mean, error, n - 1, max(abs(value) for value in values), level)


def items_interval(seeds: Sequence[Items], level: float = 0.95) -> Interval | None:
    """The mean over seeds of sum(sums)/sum(weights), all over the same items. Yes/no items: Wilson on their mean share.

    Wilson with n items, however many seeds: the mean of several seeds varies no more than one of them, so this is wide
    rather than narrow.
    """
    if not _same_items(seeds):
        return None
    values = [ratio_of(one) for one in seeds]
    if any(value is None for value in values):
        return None
    mean = exact_mean([value for value in values if value is not None])
    if all(_is_binary(one) for one in seeds):
        n = len(seeds[0].sums)
        return wilson_interval(min(max(mean * n, 0.0), float(n)), n, level) if n > 1 else None
    residuals = [_residuals(one) for one in seeds]
    kept = [i for i in range(len(residuals[0])) if any(one.weights[i] > 0 for one in seeds)]
    error = _standard_error([math.fsum(one[i] for one in residuals) / len(seeds) for i in kept])
    around = _around_logarithm if seeds[0].exponential else _around
    return None if error is None else around(mean, error, len(kept) - 1, abs(mean), level)


def paired_interval(
    pairs: Sequence[tuple[Items, Items]], comparison: Comparison, level: float = 0.95
) -> Interval | None:
    """The mean over seeds of A_s - B_s, or of A_s / B_s, both over the same items (n - 1 degrees of freedom).

    Yes/no items get one item more that only A gets right and one that only B does: with few disagreements, or none,
    the plain interval is far too narrow, and this one keeps its promise (Bonett & Price 2012, for the difference).
    """
    if not _same_items([items for pair in pairs for items in pair]):
        return None
    if all(_is_binary(items) for pair in pairs for items in pair):
        pairs = [(_with_items(a, 1.0, 0.0), _with_items(b, 0.0, 1.0)) for a, b in pairs]
    statistics: list[float] = []
    residuals: list[list[float]] = []
    scale = 0.0
    for a, b in pairs:
        top, bottom = ratio_of(a), ratio_of(b)
        if top is None or bottom is None or (comparison == "ratio" and bottom <= 0):
            return None
        statistics.append(top - bottom if comparison == "difference" else top / bottom)
        scale = max(scale, abs(top) + abs(bottom) if comparison == "difference" else abs(top / bottom))
        by, against = (1.0, 1.0) if comparison == "difference" else (1 / bottom, top / bottom / bottom)
        residuals.append([r * by - q * against for r, q in zip(_residuals(a), _residuals(b), strict=True)])
    kept = [i for i in range(len(residuals[0])) if any(a.weights[i] > 0 or b.weights[i] > 0 for a, b in pairs)]
    error = _standard_error([math.fsum(one[i] for one in residuals) / len(pairs) for i in kept])
    around = _around_logarithm if pairs[0][0].exponential and comparison == "ratio" else _around
    return None if error is None else around(exact_mean(statistics), error, len(kept) - 1, scale, level)


def unpaired_interval(
    a: float, around_a: Interval, b: float, around_b: Interval, comparison: Comparison
) -> Interval | None:
    """Difference or ratio of two values that have intervals of their own, taken as independent (MOVER).

    Zou & Donner 2008 for the difference, Donner & Zou 2012 for the ratio of positive values. Where the two rise and
    fall together, as on the same texts, it is wider than need be. The level is the lower of the two.
    """
    level = min(around_a.level, around_b.level)
    low_a, high_a, low_b, high_b = around_a.low, around_a.high, around_b.low, around_b.high
    if comparison == "difference":
        low = a - b - math.hypot(a - low_a, high_b - b)
        high = a - b + math.hypot(high_a - a, b - low_b)
    else:
        if low_b <= 0 or low_a < 0:
            return None
        product = a * b
        below, above = high_b * (2 * b - high_b), low_b * (2 * b - low_b)
        under = product**2 - low_a * (2 * a - low_a) * below
        over = product**2 - high_a * (2 * a - high_a) * above
        if below <= 0 or above <= 0 or under < 0 or over < 0:
            return None
        low, high = (product - math.sqrt(under)) / below, (product + math.sqrt(over)) / above
    return Interval(low, high, level) if math.isfinite(low) and math.isfinite(high) else None


def exact_mean(values: Sequence[float]) -> float:
    """The mean, the same in any order; equal values give exactly that value."""
    if min(values) == max(values):
        return values[0]
    try:
        return math.fsum(values) / len(values)
    except OverflowError:  # the sum is no number, the mean is
        return math.fsum(value / len(values) for value in values)


def mean_of_bounds(intervals: Sequence[Interval]) -> Interval:
    """An interval for the mean of values whose errors may go together entirely: the mean of the bounds."""
    return Interval(
        exact_mean([one.low for one in intervals]),
        exact_mean([one.high for one in intervals]),
        min(one.level for one in intervals),
    )


def ratio_of(items: Items) -> float | None:
    """sum(sums) / sum(weights), or exp of it; None where that is no number or a weight is negative."""
    weight = math.fsum(items.weights)
    if not (math.isfinite(weight) and weight > 0 and min(items.weights) >= 0):
        return None
    value = math.fsum(items.sums) / weight
    if items.exponential:
        value = math.exp(value) if value <= LARGEST_EXPONENT else math.inf
    return value if math.isfinite(value) else None


def _residuals(items: Items) -> list[float]:
    weight = math.fsum(items.weights)
    value = math.fsum(items.sums) / weight
    slope = math.exp(value) if items.exponential else 1.0
    return [slope * (x - value * w) / weight for x, w in zip(items.sums, items.weights, strict=True)]


def _standard_error(residuals: Sequence[float]) -> float | None:
    n = len(residuals)
    return math.sqrt(n / (n - 1) * math.fsum(r * r for r in residuals)) if n > 1 else None


def _around(centre: float, error: float, degrees: int, scale: float, level: float) -> Interval | None:
    if not (math.isfinite(centre) and math.isfinite(error)) or error <= ROUNDING * scale:
        return None
    half = student_quantile((1 + level) / 2, degrees) * error
    return Interval(centre - half, centre + half, level)


def _around_logarithm(centre: float, error: float, degrees: int, scale: float, level: float) -> Interval | None:
    """Of a positive value; `error` is its own. Refuses bounds that are no numbers."""
    if centre <= 0 or (found := _around(centre, error, degrees, scale, level)) is None:
        return None
    steps = (found.high - centre) / centre
    if abs(math.log(centre)) + steps > LARGEST_EXPONENT:
        return None
    return Interval(centre * math.exp(-steps), centre * math.exp(steps), level)


def _same_items(several: Sequence[Items]) -> bool:
    kinds = {(one.key, len(one.sums), one.exponential) for one in several}
    return len(kinds) == 1 and len(several[0].sums) > 0


def _is_binary(items: Items) -> bool:
    return not items.exponential and all(w == 1 for w in items.weights) and all(x in (0, 1) for x in items.sums)


def _with_items(items: Items, *sums: float) -> Items:
    return Items(items.key, (*items.sums, *sums), (*items.weights, *(1.0 for _ in sums)))
