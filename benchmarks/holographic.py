"""How fast the attractor memory learns, scores and writes next to Kneser-Ney of order 5, and how its store grows.

    python benchmarks/holographic.py                       # minutes on one core
    python benchmarks/holographic.py --tokens 300000       # less text: k-means, done once a night, weighs more

One thread, one process, CPU time, the contenders in turns, the best of `--rounds`. The text is the standard library's
source, 16,384 words; a twentieth as much is kept to find weights on, and to score. `small` has one clustering and mixes
once, `nested` two and mixes on every rung. What is timed of a memory:

    learns                        wake, non_rem (vectors by SVD, then k-means) and replay: tables that are whole
    learns but for the SVD        which is done once a corpus; the specification measures so
    learns but for prototypes     wake and replay alone
    learns and freezes            to where it can score; KN-5's learning is that, too
    scores, writes                tokens of documents; tokens drawn one after another, each from the whole distribution
    weighs                        tokens of the part that weights are found on by EM: KN-5 has none, and it is no goal

The goals are those of issue 6; a ratio is a rate by KN-5's. Growth is of a store of `--budget` bytes, by tokens read.
What the seed reports of its own theory's code is measured by `holographic_seed`.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import holographic_seed
from bloomery.data.corpus import StandardLibrary
from bloomery.data.tokenizer import train_words
from bloomery.evaluate.ngram import NGram
from bloomery.systems.holographic import prototypes
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.scorer import AttractorScorer

RESULTS = Path(__file__).parent / "results" / "holographic.json"
VOCAB = 16384
CUTOFFS = {2: 1}
SETTINGS = {
    "small": Settings(VOCAB, store_bytes=4 << 30, timescales=(1, 2, 3, 4, 5, 6), prototypes=(256,)),
    "nested": Settings(VOCAB, store_bytes=4 << 30, timescales=(1, 2, 3, 4, 5, 6), prototypes=(64, 256)),
}
GOALS = {"small": {"learns": 0.3, "scores": 0.4}, "nested": {"learns": 0.2, "scores": 0.2}}
LEAST = {"learns": 100_000, "scores": 100_000, "writes": 200}
WRITTEN = 200
Documents = list[NDArray[np.int64]]


def documents_of(tokens: int) -> tuple[Documents, Documents, Documents]:
    """Each [n + 1] between ends: some to learn, a twentieth to find weights on, as many to score."""
    texts = [one.text for one in StandardLibrary().documents()]
    texts = [texts[number] for number in np.random.default_rng(0).permutation(len(texts))]
    tokenizer = train_words(texts, VOCAB)
    end = np.array([tokenizer.end_of_document])
    parts: tuple[Documents, Documents, Documents] = ([], [], [])
    wanted = (tokens, tokens // 20, tokens // 20)
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


@contextmanager
def timed(module: Any, name: str) -> Iterator[list[float]]:
    """Seconds that a function of the module takes while this lasts."""
    real, spent = getattr(module, name), [0.0]

    def watched(*given: Any) -> Any:
        took, result = seconds(lambda: real(*given))
        spent[0] += took
        return result

    setattr(module, name, watched)
    try:
        yield spent
    finally:
        setattr(module, name, real)


def learned(which: str, text: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[Attractor, dict[str, float]]:
    """The memory, and seconds by what they are spent on."""
    memory, random = Attractor(SETTINGS[which]), np.random.default_rng(0)
    with timed(prototypes, "vectors") as vectors:
        awake, _ = seconds(lambda: memory.read(*text))
        prototyping, _ = seconds(lambda: memory.sleep(("non_rem",), random))
        replay, _ = seconds(lambda: memory.sleep(("replay",), random))
    freezing, _ = seconds(lambda: memory.scorer(cutoffs=CUTOFFS))
    whole = awake + prototyping + replay
    return memory, {
        "learns": whole,
        "learns but for the SVD": whole - vectors[0],
        "learns but for prototypes": awake + replay,
        "learns and freezes": whole + freezing,
    }


def written(scorer: AttractorScorer, end: int) -> int:
    """Tokens drawn one after another, each from the whole distribution."""
    random, reader = np.random.default_rng(0), scorer.stream()
    reader.push(end)
    for _ in range(WRITTEN):
        reader.push(int(np.searchsorted(np.cumsum(reader.probabilities()), random.random())))
    return WRITTEN


def rates(parts: tuple[Documents, Documents, Documents], rounds: int) -> dict[str, dict[str, float]]:
    """Tokens a second of CPU."""
    train, tune, test = parts
    text = stream(train)
    end, learnt, scored = int(text[0][0]), len(text[0]), sum(len(one) - 1 for one in test)
    found: dict[str, dict[str, float]] = {name: {} for name in ("KN-5", *SETTINGS)}

    def keep(name: str, what: str, count: int, took: float) -> None:
        found[name][what] = max(count / took, found[name].get(what, 0.0))

    for _ in range(rounds):
        took, table = seconds(lambda: NGram.fit([text[0]], order=5, vocab=VOCAB, end_of_document=end))
        keep("KN-5", "learns", learnt, took)
        took, _ = seconds(lambda: [table.document_logprobs(one) for one in test])  # noqa: B023
        keep("KN-5", "scores", scored, took)
        for name in SETTINGS:
            memory, spent = learned(name, text)
            for what, took in spent.items():
                keep(name, what, learnt, took)
            frozen = memory.scorer(cutoffs=CUTOFFS)
            took, scorer = seconds(lambda: frozen.fitted(tune, nested=name == "nested"))  # noqa: B023
            keep(name, "weighs", sum(len(one) - 1 for one in tune), took)
            took, _ = seconds(lambda: [scorer.document_logprobs(one) for one in test])  # noqa: B023
            keep(name, "scores", scored, took)
            took, count = seconds(lambda: written(scorer, end))  # noqa: B023
            keep(name, "writes", count, took)
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


def main(given: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tokens", type=int, default=2_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--budget", type=int, default=32 << 20)
    arguments.add_argument("--out", type=Path, default=RESULTS)
    options = arguments.parse_args(given)
    torch.set_num_threads(1)
    parts = documents_of(options.tokens)
    print("tokens to learn, weigh and score:", *(f"{sum(len(one) - 1 for one in part):,}" for part in parts))
    grown = growth(parts[0], options.budget)
    for one in grown:
        size = f"{one['store_bytes']:14,.0f} bytes ({one['store_bytes'] / options.budget:4.0%})"
        keys = f"{one['entries']:12,.0f} keys, {one['forgotten_share']:4.0%} forgotten"
        print(f"{one['tokens']:12,.0f} tokens {size} {keys}")
    seed = holographic_seed.speed_ups(max(parts[0], key=len), VOCAB, options.rounds)
    for name, one in seed.items():
        print(f"{name:14} {one['loop']:12,.0f}/s {one['batch']:12,.0f}/s: {one['times']:6.1f} times", end="")
        print(f", largest difference {one['largest difference']:.0e}")
    found = rates(parts, options.rounds)
    for name, one in found.items():
        for what, rate in one.items():
            print(f"{name:8} {what:26} {rate:12,.0f}/s{compared(name, what, rate, found['KN-5'])}")
    told = {"tokens": options.tokens, "rounds": options.rounds, "budget": options.budget}
    facts = {"options": told, "versions": versions(), "rates": found, "growth": grown, "seed": seed}
    options.out.write_text(json.dumps(facts, indent=1) + "\n")


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__}


def compared(name: str, what: str, rate: float, rival: dict[str, float]) -> str:
    against = "learns" if what.startswith("learns") else what
    if name not in SETTINGS or (against not in rival and what not in LEAST):
        return ""
    ratio = f"  {rate / rival[against]:.2f} of KN-5" if against in rival else ""
    least, goal = LEAST.get(what), GOALS[name].get(what)
    return ratio + (f"  goal {goal}" if goal else "") + (f"  at least {least:,}/s" if least else "")


if __name__ == "__main__":
    main()
