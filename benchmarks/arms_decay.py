"""Episodic caches that fade, which `holographic_arms.py` tries in place of the windows of evaluate.caches.

    c(t | h) = sum of rate^(age) over where h t was read / the same over where h was read,   age in tokens

of the document so far, for histories h of 0 to LONGEST tokens and one or more rates; rate = 2^(-1 / half-life).
Weights by expectation-maximisation, one set for each longest history that was read at all; half-lives by line search
over HALF_LIVES on the same documents, one after the other, each at its best weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from bloomery.evaluate.caches import LONGEST_HISTORY, mixture_weights
from bloomery.evaluate.ngram_counts import group

Tokens = Int[np.ndarray, " n"]
Reals = NDArray[np.float64]
LONGEST = LONGEST_HISTORY
HALF_LIVES = (60.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 16000.0)


def mass_before(ids: Tokens, rate: float) -> Float[np.ndarray, " n"]:
    """sum of rate^(distance) over the earlier places of each id; -1 is nothing. By doubling: after the step s, a place
    has summed its id's last 2 s places."""
    order = np.argsort(ids, kind="stable")
    own = ids[order]
    mass, step = np.ones(len(ids)), 1
    while True:
        later = step + np.flatnonzero(own[step:] == own[:-step]) if step < len(own) else np.zeros(0, dtype=np.int64)
        if not len(later):
            break
        earlier = later - step
        mass[later] += rate ** (order[later] - order[earlier]) * mass[earlier]
        step *= 2
    out = np.zeros(len(ids))
    out[order] = mass - 1
    return np.where(ids >= 0, out, 0.0)


def shares_of(
    tokens: Tokens, vocab: int, rates: Sequence[float]
) -> tuple[Float[np.ndarray, "n r k"], Int[np.ndarray, " n"]]:
    """What each cache gives each token after the first of tokens [n + 1], and how many histories were read before."""
    count = len(tokens) - 1
    shares, known = np.zeros((count, len(rates), LONGEST + 1)), np.zeros(count, dtype=np.int64)
    histories, grams = np.zeros(count, dtype=np.int64), tokens
    for history in range(LONGEST + 1):
        wholes = np.where(histories >= 0, grams[1:], -1)
        for number, rate in enumerate(rates):
            mass = mass_before(histories, rate)
            shares[:, number, history] = mass_before(wholes, rate) / np.where(mass > 0, mass, 1)
        known += _read_before(histories)
        histories = np.where(np.arange(count) >= history, grams[:-1], -1)
        longer = grams.copy()
        longer[1:] = grams[:-1] * vocab + tokens[1:]
        grams = group(longer)[2]
    return shares, known


def _read_before(ids: Tokens) -> NDArray[np.bool_]:
    first = np.zeros(len(ids), dtype=bool)
    first[np.unique(ids, return_index=True)[1]] = True
    return ~first & (ids >= 0)


@dataclass(frozen=True, slots=True, eq=False)
class Fading:
    rates: tuple[float, ...]
    weights: Float[np.ndarray, "buckets c"]

    @staticmethod
    def fit(own: Sequence[Reals], documents: Sequence[Tokens], vocab: int, rates: Sequence[float]) -> Fading:
        """own: the model's probabilities of the tokens of documents [n + 1], each after its first."""
        found = [shares_of(one, vocab, rates) for one in documents]
        shares, known = (np.concatenate(each) for each in zip(*found, strict=True))
        parts = np.column_stack((np.concatenate(own), shares.reshape(len(known), -1)))
        there = np.arange(LONGEST + 1) < np.arange(LONGEST + 2)[:, None]
        present = np.column_stack((np.ones(LONGEST + 2, dtype=bool), *[there] * len(rates)))
        weights = np.stack([mixture_weights(parts[known == depth], one) for depth, one in enumerate(present)])
        return Fading(tuple(rates), weights)

    def mixed(self, own: Reals, tokens: Tokens, vocab: int) -> Reals:
        """[n]: with what the model alone gives each token of [n + 1] after the first."""
        shares, known = shares_of(tokens, vocab, self.rates)
        weights = self.weights[known]
        return weights[:, 0] * own + (weights[:, 1:] * shares.reshape(len(own), -1)).sum(1)


def searched(own: Sequence[Reals], documents: Sequence[Tokens], vocab: int, count: int) -> Fading:
    """With `count` half-lives from HALF_LIVES, each the best beside those before it."""
    kept: tuple[float, ...] = ()
    best: Fading | None = None
    for _ in range(count):
        tried = [(*kept, 2 ** (-1 / half)) for half in HALF_LIVES if 2 ** (-1 / half) not in kept]
        fits = [Fading.fit(own, documents, vocab, rates) for rates in tried]
        nats = [
            -sum(np.log(fit.mixed(p, one, vocab)).sum() for p, one in zip(own, documents, strict=True)) for fit in fits
        ]
        best = fits[int(np.argmin(nats))]
        kept = best.rates
    assert best is not None
    return best


def half_lives(fading: Fading) -> list[float]:
    return [round(float(-1 / np.log2(rate)), 1) for rate in fading.rates]
