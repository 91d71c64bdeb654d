"""Seconds of a stage on one core, from rates of whole runs, looks at held-out text and saves included. No torch.

    v4, prod       tokens / rate(window) + nights GROUPING buffer^2; rates lie on a line between those measured, in
                   logarithms, and beyond the longest window fall as its length; AWAKE times as high without sleep
    attractor      tokens / rate + nights NIGHT vocabulary: singular values and k-means of every token's vector
    exact_context  tokens / rate
    calibrate      tokens / rate, scored twice and weighed

Measured: benchmarks/results/holographic_whole_runs.json, 40,000 to a million tokens; cores were shared. A memory that
has grown is slower, so that a hundred times as many tokens are an extrapolation (docs/results/holographic-a.md).
"""

from __future__ import annotations

import math

from bloomery.systems.holographic.config import Wake

RATES = {2: 22_000.0, 8: 8_500.0, 256: 6_900.0, 4096: 1_800.0}
"""{window: tokens a second} of v4."""
PROD = 0.2
"""Of v4's rate."""
AWAKE = 1.6
"""Without prototypes to ask."""
EXACT, ATTRACTOR = 75_000.0, 100_000.0
GROUPING = {"v4": 8e-8, "prod": 3e-7, "exact_context": 0.0}
"""Seconds of a sleep by the square of its episodes: 5.3 s and 19.4 s for 8,000."""
NIGHT = 54e-6
"""Seconds of a night of attractors by token of the vocabulary."""
WEIGHED = 50_000.0
"""Tokens a second that attractors find weights on, inside the back-off (docs/performance.md)."""
STRETCH, PART = 20_000, 150_000
"""Tokens of a document, and of a part whose documents nobody counts, as in the bundled plans: a price is asked for
before there are data."""


def waking(wake: Wake, variant: str, vocab: int) -> float:
    nights = 0 if wake.sleep is None else wake.tokens // wake.sleep.every
    if variant == "attractor":
        return wake.tokens / ATTRACTOR + nights * NIGHT * vocab
    asleep = nights * GROUPING[variant] * min(wake.episodes.buffer, wake.tokens) ** 2
    faster = AWAKE if wake.sleep is None and variant != "exact_context" else 1.0
    return wake.tokens / (faster * rate(variant, wake.context)) + asleep


def rate(variant: str, window: int) -> float:
    """Tokens a second of v4, prod or exact_context."""
    if variant == "exact_context":
        return EXACT
    return _between(window) * (PROD if variant == "prod" else 1.0)


def _between(window: int) -> float:
    known = sorted(RATES)
    if window <= known[0]:
        return RATES[known[0]]
    if window >= known[-1]:
        return RATES[known[-1]] * known[-1] / window
    above = next(each for each in known if each > window)
    below = max(each for each in known if each <= window)
    share = math.log(window / below) / math.log(above / below)
    return RATES[below] * (RATES[above] / RATES[below]) ** share


def weighed_tokens(documents: int | None) -> int:
    """How many weights are found on, as far as can be told before there are data."""
    return PART if documents is None else documents * STRETCH


def weighing(documents: int | None) -> float:
    return weighed_tokens(documents) / WEIGHED
