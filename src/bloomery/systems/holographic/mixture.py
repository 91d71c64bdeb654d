"""Weights of a mixture inside the back-off recursion, by expectation-maximisation on tokens that nothing else saw.

With share, gamma of the words' ladder on rung l, c_j what the other ladders say, and b the bucket of the context (the
size of its total, in octaves; 0: not there):

    base(l) = share(l) + gamma(l) p(l - 1)
    p(l)    = w(l, b, 0) base(l) + sum_j w(l, b, j) c_j

nested mixes on every rung whose context is there; static on the last alone, with one bucket. Each p is a convex sum of
distributions, so it is one. EM is exact: the probability that p(l)'s token came from base(l), and within it from
p(l - 1), is passed down (an inside-outside pass over the rungs). MADE_UP_TOKENS hold a bucket near its start where it
saw little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from bloomery.systems.holographic.attractors import Reals, Step

BUCKETS = 14
MADE_UP_TOKENS = 10.0
"""As evaluate.caches has it: half of them the base's, the rest shared by the others."""
ROUNDS, CLOSE_ENOUGH = 60, 1e-3
"""Rounds stop where the loss falls by less than CLOSE_ENOUGH percent."""


def bucket(totals: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """0 where a context is not there, else the octave of its total from one on."""
    return np.minimum(np.frexp(totals)[1], BUCKETS - 1).astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    weights: Float[np.ndarray, "rungs buckets parts"]
    nested: bool

    @staticmethod
    def alone(rungs: int, parts: int) -> Mixture:
        """The words' ladder and nothing else."""
        weights = np.zeros((rungs, BUCKETS, 1 + parts))
        weights[:, :, 0] = 1
        return Mixture(weights, nested=False)

    @staticmethod
    def fit(steps: Sequence[Step], parts: Float[np.ndarray, "n j"], vocab: int, *, nested: bool) -> Mixture:
        """steps: of the words' ladder; parts: what the others say of the same targets."""
        start = np.full(1 + parts.shape[1], 0.5 / max(1, parts.shape[1]))
        start[0] = 1 - start[1:].sum()
        made = Mixture(np.broadcast_to(start, (len(steps), BUCKETS, len(start))).copy(), nested)
        before = np.inf
        for _ in range(ROUNDS if parts.shape[1] else 0):
            weights, loss = made._round(steps, parts, vocab, start)
            made = Mixture(weights, nested)
            if before - loss < CLOSE_ENOUGH / 100 * loss:
                break
            before = loss
        return made

    def mixed(self, rung: int) -> bool:
        """Whether this rung mixes."""
        return self.nested or rung == len(self.weights) - 1

    def row(self, rung: int, totals: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Which bucket's weights hold at each position; -1: p(l) = base(l)."""
        if not self.mixed(rung):
            return np.full(len(totals), -1, dtype=np.int64)
        if not self.nested:
            return np.zeros(len(totals), dtype=np.int64)
        return np.where(totals > 0, bucket(totals), -1)

    def probabilities(self, steps: Sequence[Step], parts: Float[np.ndarray, "n j"], vocab: int) -> Reals:
        return self._inside(steps, parts, vocab)[-1][1]

    def _inside(self, steps: Sequence[Step], parts: Reals, vocab: int) -> list[tuple[Reals, Reals, NDArray[np.int64]]]:
        """(base, p, bucket) of each rung."""
        found: list[tuple[Reals, Reals, NDArray[np.int64]]] = []
        below = np.full(len(parts), 1 / vocab)
        for number, step in enumerate(steps):
            base = step.share + step.gamma * below
            rows = self.row(number, step.total)
            below = base
            if self.mixed(number):
                own = self._own(number, rows)
                out = own[0] * base
                for part in range(parts.shape[1]):
                    out += own[1 + part] * parts[:, part]
                below = np.where(rows >= 0, out, base) if self.nested else out
            found.append((base, below, rows))
        return found

    def _own(self, rung: int, rows: Int[np.ndarray, " n"]) -> list[Reals] | Reals:
        """Of base and of each part: the weight at each position, or everywhere."""
        own = self.weights[rung].T
        return [np.ascontiguousarray(one)[rows] for one in own] if self.nested else own[:, 0]

    def _round(self, steps: Sequence[Step], parts: Reals, vocab: int, start: Reals) -> tuple[Reals, float]:
        inside = self._inside(steps, parts, vocab)
        weights = self.weights.copy()
        mass = np.ones(len(parts))
        for number in range(len(steps) - 1, -1, -1):
            base, p, rows = inside[number]
            step = steps[number]
            if self.mixed(number):
                sent = np.where(rows >= 0, mass / p, 0.0)
                held = np.maximum(rows, 0)
                stays = [own * said * sent for own, said in zip(self._own(number, rows), (base, *parts.T), strict=True)]
                sums = (
                    np.column_stack([np.bincount(held, weights=one, minlength=BUCKETS) for one in stays])
                    + MADE_UP_TOKENS * start
                )
                weights[number] = sums / sums.sum(-1, keepdims=True)
                mass = np.where(rows >= 0, stays[0], mass)
            below = inside[number - 1][1] if number else 1 / vocab
            mass = mass * step.gamma * below / base
        return weights, float(-np.log(inside[-1][1]).mean())
