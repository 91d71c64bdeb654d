"""How fast the attractor memory learns, scores and writes next to Kneser-Ney of order 5, and how its store grows.

    python benchmarks/holographic.py                       # minutes on one core
    python benchmarks/holographic.py --tokens 300000       # less text: k-means, done once a night, weighs more

One thread, one process, CPU time, the contenders in turns, the best of `--rounds`. The text is the standard library's
source, 16,384 words. `small` has one clustering and mixes once, `nested` two and mixes on every rung; learning is wake,
non_rem and replay, k-means and SVD included and also given apart. Weights are found on a part of its own, untimed. The
goals are those of issue 6; a ratio is a rate by KN-5's. Growth is of a store of `--budget` bytes, by tokens read.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bloomery.data.corpus import StandardLibrary
from bloomery.data.tokenizer import train_words
from bloomery.evaluate.ngram import NGram
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.scorer import AttractorScorer

RESULTS = Path(__file__).parent / "results" / "holographic.json"
VOCAB = 16384
CUTOFFS = {2: 1}
SETTINGS = {
    "small": Settings(VOCAB, store_bytes=4 << 30, timescales=(1, 2, 3, 4, 5, 6), prototypes=(256,)),
    "nested": Settings(VOCAB, store_bytes=4 << 30, timescales=(1, 2, 3, 4, 5, 6), prototypes=(64, 256)),
}
GOALS = {"small": (0.3, 0.4), "nested": (0.2, None)}
WRITTEN = 200
Documents = list[NDArray[np.int64]]


def documents_of(tokens: int) -> tuple[Documents, Documents, Documents]:
    """Each [n + 1] between ends: some to learn, a tenth as many to find weights on, as many to score."""
    texts = [one.text for one in StandardLibrary().documents()]
    texts = [texts[number] for number in np.random.default_rng(0).permutation(len(texts))]
    tokenizer = train_words(texts, VOCAB)
    end = np.array([tokenizer.end_of_document])
    parts: tuple[Documents, Documents, Documents] = ([], [], [])
    wanted = (tokens, tokens // 10, tokens // 10)
    have, at = 0, 0
    for text in texts:
        if have >= wanted[at]:
            have, at = 0, at + 1
            if at == len(parts):
                break
        parts[at].append(np.concatenate((end, tokenizer.encode(text), end)).astype(np.int64))
        have += len(parts[at][-1])
    return parts


def stream(documents: Documents) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = [len(one) - 1 for one in documents]
    return np.concatenate([documents[0][:1], *(one[1:] for one in documents)]), 1 + np.cumsum([0, *lengths[:-1]])


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result


def learned(which: str, text: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[Attractor, float]:
    """The memory, and of its seconds those of the prototypes."""
    memory = Attractor(SETTINGS[which])
    memory.read(*text)
    asleep, _ = seconds(lambda: memory.sleep(("non_rem",), np.random.default_rng(0)))
    memory.sleep(("replay",), np.random.default_rng(0))
    return memory, asleep


def written(scorer: AttractorScorer, end: int) -> int:
    """Tokens drawn one after another, each from the whole distribution."""
    random, reader = np.random.default_rng(0), scorer.stream()
    reader.push(end)
    for _ in range(WRITTEN):
        reader.push(int(np.searchsorted(np.cumsum(reader.probabilities()), random.random())))
    return WRITTEN


def rates(parts: tuple[Documents, Documents, Documents], rounds: int) -> dict[str, dict[str, float]]:
    """Tokens a second of CPU: learning, learning without the prototypes, scoring, writing."""
    train, tune, test = parts
    text = stream(train)
    end, learnt, scored = int(text[0][0]), len(text[0]), sum(len(one) - 1 for one in test)
    found: dict[str, dict[str, float]] = {name: {} for name in ("KN-5", *SETTINGS)}

    def keep(name: str, what: str, rate: float) -> None:
        found[name][what] = max(rate, found[name].get(what, 0.0))

    for _ in range(rounds):
        took, table = seconds(lambda: NGram.fit([text[0]], order=5, vocab=VOCAB, end_of_document=end))
        keep("KN-5", "learns", learnt / took)
        took, _ = seconds(lambda: [table.document_logprobs(one) for one in test])  # noqa: B023
        keep("KN-5", "scores", scored / took)
        for name in SETTINGS:
            took, (memory, asleep) = seconds(lambda: learned(name, text))  # noqa: B023  called at once
            keep(name, "learns", learnt / took)
            keep(name, "learns but for prototypes", learnt / (took - asleep))
            scorer = memory.scorer(tune, nested=name == "nested", cutoffs=CUTOFFS)
            took, _ = seconds(lambda: [scorer.document_logprobs(one) for one in test])  # noqa: B023
            keep(name, "scores", scored / took)
            took, count = seconds(lambda: written(scorer, end))  # noqa: B023
            keep(name, "writes", count / took)
    return found


def growth(documents: Documents, budget: int) -> list[dict[str, float]]:
    """Bytes of a store by tokens read, sleeping ten times."""
    memory = Attractor(Settings(VOCAB, store_bytes=budget, prototypes=(64,)))
    tokens, starts = stream(documents)
    found: list[dict[str, float]] = []
    edges = np.linspace(0, len(tokens), 11).astype(int)
    for first, stop in pairwise(edges):
        memory.read(tokens[first:stop], starts[(starts >= first) & (starts < stop)] - first)
        memory.sleep(("non_rem", "replay", "prune") if first == 0 else ("replay", "prune"), np.random.default_rng(0))
        measures = memory.measures()
        named = ("store_bytes", "entries", "forgotten_share", "compression")
        found.append({"tokens": float(stop), **{name: measures[f"memory/{name}"] for name in named}})
        assert measures["memory/store_bytes"] <= budget
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tokens", type=int, default=2_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--budget", type=int, default=32 << 20)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    parts = documents_of(options.tokens)
    grown = growth(parts[0], options.budget)
    for one in grown:
        size = f"{one['store_bytes']:14,.0f} bytes ({one['store_bytes'] / options.budget:4.0%})"
        print(f"{one['tokens']:12,.0f} tokens {size} {one['entries']:12,.0f} keys")
    found = rates(parts, options.rounds)
    for name, one in found.items():
        goals = dict(zip(("learns", "scores"), GOALS.get(name, (None, None)), strict=True))
        for what, rate in one.items():
            ratio = rate / found["KN-5"][what] if what in found["KN-5"] else None
            goal = f"  goal {goals[what]}" if goals.get(what) else ""
            print(f"{name:8} {what:26} {rate:12,.0f}/s" + (f"  {ratio:.2f} of KN-5" if ratio else "") + goal)
    RESULTS.write_text(json.dumps({"options": vars(options), "rates": found, "growth": grown}, indent=1) + "\n")


if __name__ == "__main__":
    main()
