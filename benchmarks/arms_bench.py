"""Where `holographic_arms.py` tries its experts: one corpus and split, the nested memory, and what is told on val.

The memory is holographic_static.py's, with its weights found on tune. An expert is a column of probabilities of the
targets of tune and of val; beside the ladders' columns it is mixed in on every rung, and all weights found anew.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch

from arms_experts import Reals
from bloomery.evaluate.caches import LONGEST_HISTORY, WINDOWS, Caches, mixture_weights, shares_of
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.resample import bootstrap_interval
from bloomery.systems.holographic import prototypes
from bloomery.systems.holographic.attractors import Step
from bloomery.systems.holographic.mixture import Mixture
from bloomery.systems.holographic.scorer import AttractorScorer
from holographic_static import VOCAB, Documents, ours, split, stream, woken

VAL, TUNE, LOOKED_AT = 60_000, 30_000, 4000
"""Documents beyond so many tokens are left out; settings are chosen on LOOKED_AT targets of tune."""
Columns = Mapping[str, Reals]


def first_of(documents: Documents, most: int) -> Documents:
    """As many from the front as hold no more than `most` tokens, at least one."""
    ends = np.cumsum([len(one) - 1 for one in documents])
    return documents[: max(1, int((ends <= most).sum()))]


class Bench:
    """One corpus and split: the memory, what it gives tune and val, and how experts are put beside it."""

    def __init__(self, corpus: str, seed: int) -> None:
        whole = split(corpus, seed)
        self.train = whole["train"]
        self.held = {"tune": first_of(whole["tune"], TUNE), "val": first_of(whole["val"], VAL)}
        parts = {**whole, **self.held}
        tokens = stream(self.train)[0]
        self.rival = NGram.fit([tokens], order=5, vocab=VOCAB, end_of_document=int(tokens[0]))
        memory = woken(self.train)
        self.memory = ours(memory, parts, self.rival, "nested")[0]
        classes = self.memory.alphabets[-1]
        assert classes is not None
        self.classes = classes
        pairs, times = np.unique(tokens[:-1] * VOCAB + tokens[1:], return_counts=True)
        self.vectors = prototypes.vectors(pairs // VOCAB, pairs % VOCAB, times, VOCAB, memory.settings.seed)
        read = memory.times() + 1.0
        self.log_read = torch.from_numpy(np.log(read / read.sum())).float()
        self.mean = self.log_read.exp() @ self.vectors
        self.targets = {name: np.concatenate([one[1:] for one in held]) for name, held in self.held.items()}
        self.sizes = np.array([len(one) - 1.0 for one in self.held["val"]])
        began = time.process_time()
        for one in self.held["val"]:
            self.memory.document_probabilities(one)
        self.seconds = time.process_time() - began
        self.cache_seconds = self._cache_seconds()
        self.own = {name: _columns(self.memory, held) for name, held in self.held.items()}
        self.alone = {name: self.memory.mixture.probabilities(*own, VOCAB) for name, own in self.own.items()}
        random = np.random.default_rng(0)
        size = len(self.targets["tune"])
        self.places = np.sort(random.choice(size, min(LOOKED_AT, size), replace=False))

    def _cache_seconds(self) -> float:
        """To look up the caches of two windows on val."""
        began = time.process_time()
        for one in self.held["val"]:
            shares_of(one, VOCAB, WINDOWS, LONGEST_HISTORY)
        return time.process_time() - began

    def mixed(self, *experts: Columns) -> dict[str, Reals]:
        """Probabilities of tune and val with these beside the ladders, weights found on tune."""
        parts = {
            name: np.asfortranarray(np.column_stack((own[1], *(one[name] for one in experts))))
            for name, own in self.own.items()
        }
        mixture = Mixture.fit(self.own["tune"][0], parts["tune"], VOCAB, nested=True)
        return {name: mixture.probabilities(own[0], parts[name], VOCAB) for name, own in self.own.items()}

    def by_document(self, name: str, values: Reals) -> list[Reals]:
        return np.split(values, np.cumsum([len(one) - 1 for one in self.held[name]])[:-1])

    def cached(self, own: Mapping[str, Reals]) -> Reals:
        """[val tokens]: with the caches of two windows, their weights found on tune."""
        tune, val = (self.by_document(name, own[name]) for name in ("tune", "val"))
        caches = Caches.fit(tune, self.held["tune"], VOCAB, WINDOWS, LONGEST_HISTORY)
        pairs = zip(val, self.held["val"], strict=True)
        return np.concatenate([caches.mixed(p, tokens, VOCAB) for p, tokens in pairs])

    def nats(self, probability: Reals) -> Reals:
        """Of each document of val."""
        return np.array([-np.log(one).sum() for one in self.by_document("val", probability)])

    def perplexity(self, probability: Reals) -> float:
        return float(np.exp(-np.log(probability).mean()))

    def ratio(self, one: Reals, other: Reals) -> list[float]:
        """Of perplexities on val, with its interval by drawing documents."""
        table = np.column_stack((self.nats(one) - self.nats(other), self.sizes))
        interval = bootstrap_interval(table, lambda sums: np.exp(sums[:, 0] / sums[:, 1]))
        value = float(np.exp(table[:, 0].sum() / self.sizes.sum()))
        return [value, interval.low, interval.high] if interval else [value, value, value]

    def beside(self, column: Reals) -> float:
        """Nats a token at `places` of tune, mixed with the memory by one weight."""
        table = np.column_stack((self.alone["tune"][self.places], column))
        return float(-np.log(table @ mixture_weights(table, np.ones(2, dtype=bool))).mean())


def _columns(memory: AttractorScorer, documents: Documents) -> tuple[list[Step], Reals]:
    """What AttractorScorer.fitted finds weights on."""
    found = [memory._parts(one) for one in documents]
    rungs = zip(*(steps for steps, _ in found), strict=True)
    steps = [Step(*(np.concatenate(column) for column in zip(*rung, strict=True))) for rung in rungs]
    return steps, np.concatenate([parts for _, parts in found])
