"""What else could stand beside attractors: ridge, neighbours, an associative memory, caches that fade; judged on val.

    python benchmarks/holographic_arms.py books 0      # one corpus, one split; adds to benchmarks/results
    python benchmarks/holographic_arms.py              # the table of what stands there

Corpora, splits and the nested memory are those of holographic_static.py, and test is not looked at. Each expert
(arms_experts.py, arms_decay.py) is one more column of the mixture, mixed in on every rung as a prototype's ladder is,
its weights found with all others on tune (arms_bench.py); its settings are the best on tune, mixed with the memory by
one weight.

Kept, by a rule that was written before anything was measured: the ratio of perplexities on val is at most WORTH and
the upper end of its 95 % interval below 1 on every corpus and split, at no more than SLOWER times the memory's scoring
time and within KN-5's bytes. What adapts to the text that it reads is judged beside the caches of two windows, and
caches that fade in place of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from arms_bench import Bench, Columns, first_of
from arms_decay import half_lives, searched
from arms_experts import LAGS, Contexts, Keys, Memory, Neighbours, Readout, Reals, Ridge, before
from holographic_static import VOCAB, Documents

RESULTS = Path(__file__).parent / "results" / "holographic_arms.json"
WORTH, SLOWER = 0.995, 1.5
DIMENSION, MEMORY_TOKENS = 1024, 250_000
"""Of the associative memories, and how many tokens they learn: the last of train."""
TEMPERATURES, PRIORS, PENALTIES = (0.12, 0.2, 0.35, 0.6), (0.8, 1.0), (1e-5, 1e-2)
DISTANCES = (0.05, 0.1, 0.2, 0.4)
DELTA = (("bound", 1.0), ("bound", 0.1), ("bound", 0.02), ("cosines", 0.1))
FAST_RATES = (0.05, 0.2, 1.0)
ADAPTS = "delta memory, fast"
Predictions = Sequence[tuple[dict[str, Any], Callable[[Any], torch.Tensor]]]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """An expert's columns, its settings, and what it costs: seconds of CPU to train and to score val, bytes."""

    columns: Columns
    settings: dict[str, Any]
    train: float
    score: float
    bytes: int


def best(bench: Bench, tried: Sequence[tuple[Reals, Any]]) -> Any:
    """Of (column at bench.places, what it belongs to)."""
    return min(((bench.beside(column), number) for number, (column, _) in enumerate(tried)))[1]


def read_out(bench: Bench, predicted: Predictions, trained: float, size: int) -> Found:
    """The best of several predictions (settings, document -> vectors) and of the readout's settings, on tune."""
    tried: list[tuple[Reals, tuple[int, Readout]]] = []
    for number, (_, predict) in enumerate(predicted):
        said = torch.cat([predict(one) for one in bench.held["tune"]])[torch.from_numpy(bench.places)]
        for temperature in TEMPERATURES:
            for prior in PRIORS:
                readout = Readout(bench.vectors, bench.log_read, temperature, prior)
                tried.append((readout.of(said, bench.targets["tune"][bench.places]), (number, readout)))
    number, readout = tried[best(bench, tried)][1]
    settings, predict = predicted[number]
    columns, seconds = timed(bench, lambda held: np.concatenate([readout.of(predict(one), one[1:]) for one in held]))
    settings = {**settings, "temperature": readout.temperature, "prior": readout.prior}
    return Found(columns, settings, trained, seconds, size + 4 * bench.vectors.numel())


def timed(bench: Bench, column: Callable[[Documents], Reals]) -> tuple[Columns, float]:
    """Of tune and of val, and the seconds of val."""
    columns, seconds = {}, 0.0
    for name in ("tune", "val"):
        began = time.process_time()
        columns[name] = column(bench.held[name])
        seconds = time.process_time() - began
    return columns, seconds


def ridge(bench: Bench) -> Found:
    began = time.process_time()
    model = Ridge(Contexts(bench.vectors), bench.mean)
    model.read(bench.train)
    solved = [({"lambda": one}, model.solved(one)) for one in PENALTIES]
    trained = time.process_time() - began
    predict = [(setting, lambda tokens, b=b: model.predicted(tokens, b)) for setting, b in solved]
    return read_out(bench, predict, trained, 4 * solved[0][1].numel())


def neighbours(bench: Bench) -> Found:
    tried: list[tuple[Reals, tuple[Neighbours, float, float]]] = []
    for lags in (2, LAGS):
        began = time.process_time()
        model = Neighbours(Contexts(bench.vectors), bench.classes, lags, bench.log_read)
        model.read(bench.train, seed=0)
        trained = time.process_time() - began
        contexts = torch.cat([before(one, lags) for one in bench.held["tune"]])[torch.from_numpy(bench.places)]
        columns = model.of(contexts, bench.targets["tune"][bench.places], DISTANCES)
        tried += [(column, (model, one, trained)) for one, column in zip(DISTANCES, columns, strict=True)]
    model, temperature, trained = tried[best(bench, tried)][1]

    def column(held: Documents) -> Reals:
        contexts = torch.cat([before(one, model.lags) for one in held])
        return model.of(contexts, np.concatenate([one[1:] for one in held]), (temperature,))[0]

    columns, seconds = timed(bench, column)
    size = 2 * (model.lags + 1) * model.count + 4 * bench.vectors.numel()
    settings = {"lags": model.lags, "temperature": temperature, "contexts": model.count}
    return Found(columns, settings, trained, seconds, size)


def memories(bench: Bench) -> dict[str, Found]:
    """The delta rule, its additive control with the same keys, and the delta rule that goes on while it scores."""
    documents = first_of(bench.train[::-1], MEMORY_TOKENS)[::-1]
    models: list[tuple[dict[str, Any], Memory]] = []
    trained = 0.0

    def learned(kind: str, rate: float, rule: str) -> Memory:
        nonlocal trained
        began = time.process_time()
        keys = Keys.drawn(Contexts(bench.vectors), DIMENSION, kind, seed=0)
        model = Memory(keys, bench.vectors - bench.mean, rate, rule)
        model.read(documents)
        trained = time.process_time() - began
        return model

    for kind, rate in DELTA:
        models.append(({"keys": kind, "rate": rate}, learned(kind, rate, "delta")))
    size = 4 * models[0][1].weights.numel()
    delta = read_out(bench, [(settings, one.predicted) for settings, one in models], trained, size)
    kind, rate = delta.settings["keys"], delta.settings["rate"]
    model = models[DELTA.index((kind, rate))][1]
    adapting = [
        ({"keys": kind, "rate": rate, "fast rate": one}, lambda tokens, one=one: model.predicted(tokens, one))
        for one in FAST_RATES
    ]
    additive = learned(kind, 1.0, "additive")
    return {
        "delta memory": delta,
        "additive memory": read_out(bench, [({"keys": kind}, additive.predicted)], trained, size),
        ADAPTS: read_out(bench, adapting, delta.train, size),
    }


def beside(bench: Bench, experts: Mapping[str, Found]) -> dict[str, Any]:
    """Each expert, and all that do not adapt, mixed with the memory; without caches, and with them."""
    base = {"": bench.mixed()["val"], "cached ": bench.cached(bench.mixed())}
    out: dict[str, Any] = {}
    still = [one for name, one in experts.items() if name != ADAPTS]
    for name, group in [*((name, [one]) for name, one in experts.items()), ("all that do not adapt", still)]:
        mixed = bench.mixed(*(one.columns for one in group))
        found = {"": mixed["val"], "cached ": bench.cached(mixed)}
        out[name] = {
            "settings": group[0].settings if len(group) == 1 else {},
            "alone": bench.perplexity(np.maximum(group[0].columns["val"], 1e-12)) if len(group) == 1 else None,
            **{f"{which}val": bench.perplexity(p) for which, p in found.items()},
            **{f"{which}ratio": bench.ratio(p, base[which]) for which, p in found.items()},
            "train seconds": sum(one.train for one in group),
            "score seconds": sum(one.score for one in group),
            "slower": 1 + sum(one.score for one in group) / bench.seconds,
            "bytes": bench.memory.tally().bytes + sum(one.bytes for one in group),
        }
        if name == ADAPTS:
            out[name] |= {"beside caches": True}
    return out


def fading(bench: Bench) -> dict[str, Any]:
    """The memory and KN-5 with caches of two windows, and with one and with two learned half-lives in their place."""
    rival = {
        name: np.concatenate([bench.rival.document_probabilities(one) for one in held])
        for name, held in bench.held.items()
    }
    out: dict[str, Any] = {}
    for name, own in (("nested", bench.mixed()), ("KN-5", rival)):
        began = time.process_time()
        windows = bench.cached(own)
        taken = time.process_time() - began
        out[name] = {"windows": {"val": bench.perplexity(windows), "seconds": taken}}
        tune, val = (bench.by_document(part, own[part]) for part in ("tune", "val"))
        for count in (1, 2):
            made = searched(tune, bench.held["tune"], VOCAB, count)
            began = time.process_time()
            pairs = zip(val, bench.held["val"], strict=True)
            mixed = np.concatenate([made.mixed(p, tokens, VOCAB) for p, tokens in pairs])
            seconds = time.process_time() - began
            out[name][f"half-lives: {count}"] = {
                "half-lives": half_lives(made), "val": bench.perplexity(mixed), "ratio": bench.ratio(mixed, windows),
                "score seconds": seconds, "slower": (bench.seconds + seconds) / (bench.seconds + bench.cache_seconds),
                "bytes": bench.memory.tally().bytes + made.weights.nbytes,
            }  # fmt: skip
    return out


def wins(found: Sequence[tuple[Mapping[str, Any], float]]) -> bool:
    """The rule, over (what was measured of an arm, bytes of KN-5) of every corpus and split."""
    return bool(found) and all(
        one["ratio"][0] <= WORTH and one["ratio"][2] < 1 and one["slower"] <= SLOWER and one["bytes"] <= most
        for one, most in found
    )


def run(corpus: str, seed: int) -> dict[str, Any]:
    began = time.process_time()
    bench = Bench(corpus, seed)
    base = bench.mixed()
    experts = {"ridge": ridge(bench), "neighbours": neighbours(bench), **memories(bench)}
    return {
        "corpus": corpus,
        "split": seed,
        "tokens": {"train": sum(len(one) - 1 for one in bench.train), **{n: len(t) for n, t in bench.targets.items()}},
        "documents": {name: len(held) for name, held in bench.held.items()},
        "nested": {
            "val": bench.perplexity(base["val"]), "cached val": bench.perplexity(bench.cached(base)),
            "score seconds": bench.seconds, "bytes": bench.memory.tally().bytes,
        },
        "KN-5": {"bytes": bench.rival.tally().bytes},
        "arms": beside(bench, experts),
        "caches": fading(bench),
        "seconds of CPU": time.process_time() - began,
    }  # fmt: skip


def table(lines: Sequence[dict[str, Any]]) -> None:
    for line in lines:
        base = line["nested"]
        print(f"{line['corpus']} {line['split']}: nested {base['val']:.2f}, with caches {base['cached val']:.2f}")
        for name, one in line["arms"].items():
            alone = f"{one['alone']:9.1f}" if one["alone"] else f"{'':9}"
            ratios = "  ".join("{:.4f} [{:.4f}, {:.4f}]".format(*one[which]) for which in ("ratio", "cached ratio"))
            print(
                f"  {name:24} {alone} {ratios} {one['slower']:8.1f} x {one['bytes'] / 1e6:7.1f} MB  {one['settings']}"
            )
        for name, group in line["caches"].items():
            print(f"  {name:24} {group['windows']['val']:9.2f}")
            for which, one in group.items():
                if which != "windows":
                    ratio = "{:.4f} [{:.4f}, {:.4f}]".format(*one["ratio"])
                    print(f"    {which:22} {one['val']:9.2f} {ratio}  {one['half-lives']}")
    for name, found in judged(lines).items():
        print(f"{name:24} {'kept' if wins(found) else 'left out'}")


def judged(lines: Sequence[dict[str, Any]]) -> dict[str, list[tuple[Mapping[str, Any], float]]]:
    """What the rule is asked about each arm."""
    out: dict[str, list[tuple[Mapping[str, Any], float]]] = {}
    for line in lines:
        for name, one in line["arms"].items():
            own = one | {"ratio": one["cached ratio" if one.get("beside caches") else "ratio"]}
            out.setdefault(name, []).append((own, line["KN-5"]["bytes"]))
        for which, one in line["caches"]["nested"].items():
            if which != "windows":
                out.setdefault(f"caches, {which}", []).append((one, line["KN-5"]["bytes"]))
    return out


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("corpus", choices=("stdlib", "books"), nargs="?")
    arguments.add_argument("split", type=int, nargs="?", default=0)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if options.corpus:
        key = (options.corpus, options.split)
        line = run(*key)
        done = [one for one in done if (one["corpus"], one["split"]) != key] + [line]
        done.sort(key=lambda one: (one["corpus"], one["split"]))
        RESULTS.write_text(json.dumps(done, indent=1) + "\n")
    table(done)


if __name__ == "__main__":
    main()
