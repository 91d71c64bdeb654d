"""Episodic caches beside any model: what a document has said already, it says again (Kuhn and De Mori 1990).

A cache of window w and order k predicts from the last w tokens read: how often each token followed the last k,

    c(t | h) = #(h t among the last w) / #(h among the last w),
    p(t) = a(0) p_own(t) + sum of a(w, k) c(t | last k tokens)  over the caches that know their history,

with weights a that sum to one. They depend on the longest history that each window knows (a bucket), and are found by
expectation-maximisation on documents that the model was not fitted on, with a few made-up observations that favour its
own p where a bucket has hardly any. A cache that does not know its history has no weight, so every p sums to one. The
first token of a document is history only.

`Beside` gives them to any scorer; tables of counts, which need no windows, have them in ngram_cache.py. Refuses to find
weights on no tokens at all.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.errors import DataError
from bloomery.evaluate.ngram_counts import Integers, group
from bloomery.model.interface import LanguageModel, Scorer

Reals = NDArray[np.float64]

WINDOWS = (500, 5000)
LONGEST_HISTORY = 3
MADE_UP_TOKENS = 10.0
"""Observations of every bucket before any was made: half of them the model's own, the rest shared by the caches."""
ROUNDS, CLOSE_ENOUGH = 200, 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Caches:
    """Windows in tokens, histories of 0 to `longest` tokens, and what each may say in a mixture."""

    windows: tuple[int, ...]
    longest: int
    weights: Float[np.ndarray, "buckets c"]
    """Of the model's own p, then of each window's caches from no history to the longest; every row sums to one."""

    @staticmethod
    def fit(
        own: Sequence[Reals], documents: Sequence[Integers], vocab: int, windows: Sequence[int], longest: int
    ) -> Caches:
        """documents: each [n + 1], end_of_document first. own: the model's probabilities of the last tokens of each, of
        all n or fewer (a prompt is read and not scored). Raises DataError where that is nothing."""
        if not sum(map(len, own)):
            raise DataError("caches", "no tokens to find their weights on", "at least one document")
        found = [shares_of(one, vocab, windows, longest) for one in documents]
        pairs = [(shares[-len(p) :], known[-len(p) :]) for (shares, known), p in zip(found, own, strict=True) if len(p)]
        every = np.concatenate(own)
        parts = np.column_stack((every, np.concatenate([one for one, _ in pairs]).reshape(len(every), -1)))
        buckets = _bucket(np.concatenate([one for _, one in pairs]), longest)
        present = presents(len(windows), longest)
        weights = np.stack([mixture_weights(parts[buckets == number], one) for number, one in enumerate(present)])
        return Caches(tuple(windows), longest, weights)

    def mixed(self, own: Reals, tokens: Integers, vocab: int) -> Reals:
        """What the mixture gives the last len(own) of tokens [n + 1], of which the model alone gives `own`."""
        shares, known = shares_of(tokens, vocab, self.windows, self.longest)
        first = len(shares) - len(own)
        weights = self.weights[_bucket(known[first:], self.longest)]
        probability = weights[:, 0] * own
        for number, share in enumerate(shares[first:].reshape(len(own), -1).T, start=1):
            probability = probability + weights[:, number] * share
        return probability

    def reader(self) -> Reader:
        """For one token after another."""
        return Reader(self)


class Reader:
    """Reads a text token by token, with the numbers of `Caches.mixed`."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches
        self._tokens: list[int] = []
        self._seen: list[list[dict[tuple[int, ...], Counter[int]]]] = [
            [defaultdict(Counter) for _ in range(caches.longest + 1)] for _ in caches.windows
        ]

    def push(self, token: int) -> None:
        """The next token of the text; the first is history only, as end_of_document."""
        self._tokens.append(token)
        newest = len(self._tokens) - 1
        for window, tables in zip(self._caches.windows, self._seen, strict=True):
            for history, seen in enumerate(tables):
                if newest >= max(1, history):
                    seen[self._before(newest, history)][token] += 1
                oldest = newest - window
                if oldest >= max(1, history):
                    self._forget(seen, self._before(oldest, history), self._tokens[oldest])

    def _before(self, place: int, history: int) -> tuple[int, ...]:
        return tuple(self._tokens[place - history : place])

    @staticmethod
    def _forget(seen: dict[tuple[int, ...], Counter[int]], context: tuple[int, ...], token: int) -> None:
        seen[context][token] -= 1
        if not seen[context][token]:
            del seen[context][token]
        if not seen[context]:
            del seen[context]

    def mixed(self, own: Reals) -> Reals:
        """[v]: of every token that may come next, of which the model alone gives `own`."""
        end, longest = len(self._tokens), self._caches.longest
        found = [
            [seen.get(self._before(end, history)) if history <= end else None for history, seen in enumerate(tables)]
            for tables in self._seen
        ]
        depths = np.array([sum(one is not None for one in each) for each in found])
        weights = self._caches.weights[_bucket(depths, longest)]
        out = weights[0] * own
        for weight, counts in zip(weights[1:], (one for each in found for one in each), strict=True):
            if counts is not None:
                out[list(counts)] += weight * (np.array(list(counts.values())) / counts.total())
        return out


class Beside:
    """Any scorer with its caches, as a scorer of whole vocabularies: slow, for what is looked at closely."""

    def __init__(self, scorer: LanguageModel | Scorer, caches: Caches) -> None:
        self._scorer, self._caches, self.vocab = scorer, caches, scorer.vocab

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix, in float64; each row sums to one."""
        own = own_logprobs(self._scorer, tokens).exp().cpu().numpy()
        out = np.empty(own.shape)
        for number, row in enumerate(tokens.tolist()):
            reader = self._caches.reader()
            for position, token in enumerate(row):
                reader.push(token)
                out[number, position] = reader.mixed(own[number, position])
        return torch.from_numpy(np.log(out)).to(tokens.device)


def own_logprobs(scorer: LanguageModel | Scorer, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
    """In float64, of a network or of any other scorer."""
    with torch.inference_mode():
        if isinstance(scorer, LanguageModel):
            logits = scorer.eval()(tokens).logits
            return torch.log_softmax(logits.double(), dim=-1)
        return scorer.logprobs(tokens).double()


def shares_of(
    tokens: Integers, vocab: int, windows: Sequence[int], longest: int
) -> tuple[Float[np.ndarray, "n w k"], Int[np.ndarray, "n w"]]:
    """What each cache gives each token after the first of tokens [n + 1], and how many of a window's caches know their
    history: those of the shortest, as whoever knows a history knows its end."""
    count = len(tokens) - 1
    shares = np.zeros((count, len(windows), longest + 1))
    known = np.zeros((count, len(windows)), dtype=np.int64)
    histories = np.zeros(count, dtype=np.int64)  # an id for the last k tokens before each target; -1: there are fewer
    grams = tokens  # and for the k + 1 tokens that end at each position
    for history in range(longest + 1):
        wholes = np.where(histories >= 0, grams[1:], -1)
        for number, window in enumerate(windows):
            times = _times_before(histories, window)
            shares[:, number, history] = _times_before(wholes, window) / np.maximum(times, 1)
            known[:, number] += times > 0
        histories = np.where(np.arange(count) >= history, grams[:-1], -1)
        longer = grams.copy()
        longer[1:] = grams[:-1] * vocab + tokens[1:]
        grams = group(longer)[2]
    return shares, known


def _times_before(ids: Integers, window: int) -> Integers:
    """How often each id stands among the `window` before it; -1 is nothing."""
    size = len(ids)
    ordered = np.sort((ids + 1) * size + np.arange(size))
    place = ordered % size
    first = np.searchsorted(ordered, ordered - np.minimum(place, window))
    times = np.empty(size, dtype=np.int64)
    times[place] = np.arange(size) - first
    return np.where(ids >= 0, times, 0)


def _bucket(depths: Int[np.ndarray, "... w"], longest: int) -> Any:
    """The number of a row of weights: which caches of each window know their history."""
    return np.ravel_multi_index(tuple(np.moveaxis(depths, -1, 0)), (longest + 2,) * depths.shape[-1])


def presents(windows: int, longest: int) -> NDArray[np.bool_]:
    """[buckets, c]: who may have a weight, the table and the caches that know their history."""
    buckets = np.arange((longest + 2) ** windows)
    depths = np.stack(np.unravel_index(buckets, (longest + 2,) * windows), axis=-1)
    caches = np.arange(longest + 1) < depths[:, :, None]
    return np.column_stack((np.ones(len(buckets), dtype=np.bool_), caches.reshape(len(buckets), -1)))


def mixture_weights(
    parts: Float[np.ndarray, "n c"],
    present: NDArray[np.bool_],
    *,
    rounds: int = ROUNDS,
    close_enough: float = CLOSE_ENOUGH,
) -> Float[np.ndarray, " c"]:
    """EM for the weights of a mixture of fixed distributions, with MADE_UP_TOKENS as the prior's: half of them for the
    first, the rest shared by the others that are present."""
    others = present.sum() - 1
    start = np.where(present, 0.5 / max(1, others), 0.0)
    start[0] = 0.5 if others else 1.0
    weights = start
    for _ in range(rounds if others and len(parts) else 0):
        shares = parts * weights
        shares /= shares.sum(-1, keepdims=True)
        newer = (shares.sum(0) + MADE_UP_TOKENS * start) / (len(parts) + MADE_UP_TOKENS)
        done = np.abs(newer - weights).max() < close_enough
        weights = newer
        if done:
            break
    return weights / weights.sum()
