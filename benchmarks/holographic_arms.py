"""What else could stand beside attractors: ridge, neighbours, an associative memory, caches that fade; judged on val.

    python benchmarks/holographic_arms.py books 0      # one corpus, one split; adds to benchmarks/results
    python benchmarks/holographic_arms.py              # the table of what stands there

Corpora, splits and the nested memory are those of holographic_static.py, and test is not looked at. Each expert
(arms_experts.py, arms_decay.py) is one more column of the mixture, mixed in on every rung like a prototype's ladder,
its weights found with all others on tune; its settings are the best on tune mixed with the memory by one weight.
Documents of val and tune are left out beyond VAL and TUNE tokens.

Kept, by a rule that was written before anything was measured: the upper end of the 95 % interval of the ratio of
perplexities on val is below 1 and the ratio at most WORTH on every corpus and split, at no more than SLOWER times the
memory's scoring time and within KN-5's bytes. What adapts to the text that it reads is judged beside the caches, and
caches that fade in place of those of two windows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms_decay import Fading, half_lives, searched
from arms_experts import LAGS, Contexts, Keys, Memory, Neighbours, Readout, Reals, Ridge, before
from holographic_static import VOCAB, Documents, ours, split, stream, woken

from bloomery.evaluate.caches import LONGEST_HISTORY, WINDOWS, Caches, mixture_weights
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.resample import bootstrap_interval
from bloomery.systems.holographic import prototypes
from bloomery.systems.holographic.attractors import Step
from bloomery.systems.holographic.mixture import Mixture
from bloomery.systems.holographic.scorer import AttractorScorer

RESULTS = Path(__file__).parent / "results" / "holographic_arms.json"
WORTH, SLOWER = 0.995, 1.5
VAL, TUNE, LOOKED_AT = 120_000, 60_000, 8000
DIMENSION = 1024
TEMPERATURES, PRIORS, PENALTIES = (0.12, 0.18, 0.25, 0.35, 0.5), (0.8, 1.0), (1e-5, 1e-3, 1e-1)
DISTANCES = (0.05, 0.1, 0.2, 0.4)
Columns = Mapping[str, Reals]
"""What an expert gives the targets of tune and of val."""


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
        self.classes = self.memory.alphabets[-1]
        pairs, times = np.unique(tokens[:-1] * VOCAB + tokens[1:], return_counts=True)
        self.vectors = prototypes.vectors(pairs // VOCAB, pairs % VOCAB, times, VOCAB, memory.settings.seed)
        read = memory.times() + 1.0
        self.log_read = torch.from_numpy(np.log(read / read.sum())).float()
        self.targets = {name: np.concatenate([one[1:] for one in held]) for name, held in self.held.items()}
        self.sizes = np.array([len(one) - 1.0 for one in self.held["val"]])
        began = time.process_time()
        for one in self.held["val"]:
            self.memory.document_probabilities(one)
        self.seconds = time.process_time() - began
        self.own = {name: _columns(self.memory, held) for name, held in self.held.items()}
        self.alone = {name: self.memory.mixture.probabilities(*own, VOCAB) for name, own in self.own.items()}
        random = np.random.default_rng(0)
        size = len(self.targets["tune"])
        self.places = np.sort(random.choice(size, min(LOOKED_AT, size), replace=False))

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
    found = [memory._parts(one) for one in documents]  # pyright: ignore[reportPrivateUsage]
    rungs = zip(*(steps for steps, _ in found), strict=True)
    steps = [Step(*(np.concatenate(column) for column in zip(*rung, strict=True))) for rung in rungs]
    return steps, np.concatenate([parts for _, parts in found])


class Found:
    """An expert's columns, its settings, and what it costs."""

    def __init__(self, columns: Columns, settings: dict[str, Any], train: float, score: float, size: int) -> None:
        self.columns, self.settings, self.train, self.score, self.bytes = columns, settings, train, score, size


def read_out(
    bench: Bench, predicted: Sequence[tuple[dict[str, Any], Callable[[Any], torch.Tensor]]], trained: float, size: int
) -> Found:
    """The best of several predictions (settings, document -> vectors) and of the readout's settings, on tune."""
    own = bench.vectors
    tried: list[tuple[float, int, Readout]] = []
    for number, (_, predict) in enumerate(predicted):
        said = torch.cat([predict(one) for one in bench.held["tune"]])[torch.from_numpy(bench.places)]
        for temperature in TEMPERATURES:
            for prior in PRIORS:
                readout = Readout(own, bench.log_read, temperature, prior)
                column = readout.of(said, bench.targets["tune"][bench.places])
                tried.append((bench.beside(column), number, readout))
    _, number, readout = min(tried, key=lambda one: one[0])
    settings, predict = predicted[number]
    columns, seconds = {}, 0.0
    for name, held in bench.held.items():
        began = time.process_time()
        columns[name] = np.concatenate([readout.of(predict(one), one[1:]) for one in held])
        seconds = time.process_time() - began
    settings = {**settings, "temperature": readout.temperature, "prior": readout.prior}
    return Found(columns, settings, trained, seconds, size + 4 * own.numel())


def centred(bench: Bench) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean vector of what was read, and the vectors less it."""
    mean = bench.log_read.exp() @ bench.vectors
    return mean, bench.vectors - mean


def ridge(bench: Bench) -> Found:
    began = time.process_time()
    model = Ridge(Contexts(bench.vectors), centred(bench)[0])
    model.read(bench.train)
    solved = [({"lambda": one}, model.solved(one)) for one in PENALTIES]
    trained = time.process_time() - began
    predict = [(setting, lambda tokens, b=b: model.predicted(tokens, b)) for setting, b in solved]
    return read_out(bench, predict, trained, 4 * solved[0][1].numel())


def neighbours(bench: Bench) -> Found:
    assert bench.classes is not None
    tried: list[tuple[float, Neighbours, float, float]] = []
    for lags in (2, LAGS):
        began = time.process_time()
        model = Neighbours(Contexts(bench.vectors), bench.classes, lags, bench.log_read)
        model.read(bench.train, seed=0)
        trained = time.process_time() - began
        contexts = torch.cat([before(one, lags) for one in bench.held["tune"]])[torch.from_numpy(bench.places)]
        columns = model.of(contexts, bench.targets["tune"][bench.places], DISTANCES)
        tried += [
            (bench.beside(column), model, one, trained) for one, column in zip(DISTANCES, columns, strict=True)
        ]
    _, model, temperature, trained = min(tried, key=lambda one: one[0])
    columns, seconds = {}, 0.0
    for name, held in bench.held.items():
        began = time.process_time()
        contexts = torch.cat([before(one, model.lags) for one in held])
        columns[name] = model.of(contexts, bench.targets[name], (temperature,))[0]
        seconds = time.process_time() - began
    size = 2 * (model.lags + 1) * model.count + 4 * bench.vectors.numel()
    settings = {"lags": model.lags, "temperature": temperature, "contexts": model.count}
    return Found(columns, settings, trained, seconds, size)


def memory(bench: Bench, rule: str, rates: Sequence[float], kind: str) -> tuple[Found, Memory]:
    """Vectors as values, and read out as the ridge's predictions are."""
    keys = Keys.drawn(Contexts(bench.vectors), DIMENSION, kind, seed=0)
    models: list[tuple[dict[str, Any], Memory]] = []
    seconds = 0.0
    for rate in rates:
        began = time.process_time()
        model = Memory(keys, centred(bench)[1], rate, rule)
        model.read(bench.train)
        seconds = time.process_time() - began
        models.append(({"rate": rate, "keys": kind}, model))
    predict = [(settings, model.predicted) for settings, model in models]
    found = read_out(bench, predict, seconds, 4 * models[0][1].weights.numel())
    return found, next(model for settings, model in models if settings["rate"] == found.settings["rate"])


def line_of(bench: Bench, found: Found, base: Reals, mixed: Reals) -> dict[str, Any]:
    return {
        "settings": found.settings,
        "val": bench.perplexity(mixed),
        "ratio": bench.ratio(mixed, base),
        "train seconds": found.train,
        "score seconds": found.score,
        "slower": 1 + found.score / bench.seconds,
        "bytes": bench.memory.tally().bytes + found.bytes,
    }


def static(bench: Bench) -> dict[str, Found]:
    """The experts that do not learn from what they score, and the memory that does."""
    delta, trained = memory(bench, "delta", DELTA_RATES, KEYS)
    return {
        "ridge": ridge(bench),
        "neighbours": neighbours(bench),
        "delta memory": delta,
        "additive memory": memory(bench, "additive", (1.0,), KEYS)[0],
        "delta memory, fast": fast(bench, trained, delta),
    }


def fast(bench: Bench, model: Memory, still: Found) -> Found:
    """The same memory, which goes on learning in each document."""
    tried = [({"rate": rate}, lambda tokens, rate=rate: model.predicted(tokens, rate)) for rate in FAST_RATES]
    return read_out(bench, tried, still.train, still.bytes - 4 * bench.vectors.numel())


def fading(bench: Bench) -> dict[str, Any]:
    """Val perplexity of the memory and of KN-5 with two windows, and with one and two learned half-lives."""
    out: dict[str, Any] = {}
    rival = {name: np.concatenate([self_p for self_p in _probabilities(bench.rival, held)]) for name, held in bench.held.items()}
    for name, own in (("nested", bench.alone), ("KN-5", rival)):
        windows = bench.cached(own)
        out[name] = {"windows": bench.perplexity(windows)}
        for count in (1, 2):
            tune, val = (bench.by_document(part, own[part]) for part in ("tune", "val"))
            made = searched(tune, bench.held["tune"], VOCAB, count)
            began = time.process_time()
            pairs = zip(val, bench.held["val"], strict=True)
            mixed = np.concatenate([made.mixed(p, tokens, VOCAB) for p, tokens in pairs])
            seconds = time.process_time() - began
            out[name][f"{count} fading"] = {
                "half-lives": half_lives(made), "val": bench.perplexity(mixed),
                "ratio": bench.ratio(mixed, windows), "score seconds": seconds,
            }
    return out
