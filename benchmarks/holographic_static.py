"""Whether prototypes help: held-out perplexity of the attractor memory against Kneser-Ney with as many bytes.

    python benchmarks/holographic_static.py stdlib 0       # one corpus, one split; adds to benchmarks/results
    python benchmarks/holographic_static.py                # the table of what stands there

Corpora: `stdlib`, the standard library's source and the PEPs of BLOOMERY_DATA; `books`, the chapters of two of its
books. Lines are kept once across all parts, documents shuffled by the split's seed, 80 % train, 8 % val, 4 % tune, 8 %
test; 16,384 words learned from train. Everything is chosen on val (cutoffs of ours among those that keep to KN-5's
entries and bytes; order and cutoffs of the tuned rival at KN-5's bytes) and every weight is found on tune; test is
scored once. Rivals: modified KN-5 on train; on train and tune, as our weights have seen tune; tuned; and with the
caches of evaluate.ngram_cache, which ours then has too. An interval is of the ratio of perplexities, by drawing test
documents.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bloomery.data.corpus import StandardLibrary
from bloomery.data.split import LineDeduplicator
from bloomery.data.tokenizer import train_words
from bloomery.errors import PlanError
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_cache import Cached
from bloomery.evaluate.ngram_counts import Counts
from bloomery.evaluate.ngram_tuning import tune
from bloomery.evaluate.resample import bootstrap_interval
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.scorer import AttractorScorer

RESULTS = Path(__file__).parent / "results" / "holographic_static.json"
VOCAB = 16384
SETTINGS = Settings(VOCAB, store_bytes=4 << 30, timescales=(1, 2, 3, 4, 5, 6), prototypes=(64, 256))
LEFT_OUT = {"small": ("classes1", "history1"), "nested": ()}
CUTOFFS: tuple[dict[int, int], ...] = ({4: 1}, {3: 1}, {2: 1}, {2: 1, 3: 2})
RIVAL_ORDERS = (4, 5, 6)
RIVAL_CUTOFFS: tuple[tuple[int, ...], ...] = ((), (0, 0, 1), (0, 0, 0, 1), (0, 0, 0, 0, 1))
Documents = list[NDArray[np.int64]]


def texts(corpus: str) -> Iterator[str]:
    data = Path(os.environ["BLOOMERY_DATA"])
    if corpus == "stdlib":
        yield from (one.text for one in StandardLibrary().documents())
        yield from (json.loads(line)["text"] for line in (data / "docs/peps.jsonl").read_text().splitlines())
        return
    for name in ("war_and_peace_pg2600.txt", "moby_dick_pg2701.txt"):
        yield from re.split(r"(?m)^(?=CHAPTER )", (data / "text" / name).read_text(errors="replace"))


def split(corpus: str, seed: int) -> dict[str, Documents]:
    """Each document [n + 1] between ends of documents."""
    found = list(texts(corpus))
    lines = LineDeduplicator()
    kept = [lines.clean(found[number]) for number in np.random.default_rng(seed).permutation(len(found))]
    kept = [text for text in kept if len(text) > 100]
    edges = [0, *(int(share * len(kept)) for share in (0.80, 0.88, 0.92, 1.0))]
    tokenizer = train_words(kept[: edges[1]], VOCAB)
    end = np.array([tokenizer.end_of_document])
    tokens = [np.concatenate((end, one, end)).astype(np.int64) for one in tokenizer.encode_many(kept)]
    names = ("train", "val", "tune", "test")
    return {name: tokens[edges[at] : edges[at + 1]] for at, name in enumerate(names)}


def stream(documents: Documents) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As a token file has them: tokens, and where documents begin."""
    lengths = [len(one) - 1 for one in documents]
    return np.concatenate([documents[0][:1], *(one[1:] for one in documents)]), 1 + np.cumsum([0, *lengths[:-1]])


def losses(model: NGram | Cached | AttractorScorer, documents: Documents) -> NDArray[np.float64]:
    """Nats of each document."""
    return np.array([-model.document_logprobs(one).sum() for one in documents])


def perplexity(nats: NDArray[np.float64], documents: Documents) -> float:
    return float(np.exp(nats.sum() / sum(len(one) - 1 for one in documents)))


def woken(documents: Documents) -> Attractor:
    memory = Attractor(SETTINGS)
    memory.read(*stream(documents))
    memory.sleep(("non_rem", "replay"), np.random.default_rng(0))
    return memory


def ours(memory: Attractor, parts: dict[str, Documents], rival: NGram, which: str) -> tuple[AttractorScorer, Any]:
    """The best on val of those that store no more than the rival, and what was tried. `small` has one clustering and
    mixes once, with one set of weights; `nested` has two and mixes on every rung."""
    best: tuple[float, AttractorScorer] | None = None
    tried: list[dict[str, Any]] = []
    for cutoffs in CUTOFFS:
        plain = memory.scorer(cutoffs=cutoffs, leave_out=LEFT_OUT[which])
        if plain.entries > rival.entries or plain.tally().bytes > rival.tally().bytes:
            tried.append({"cutoffs": cutoffs, "entries": plain.entries, "val": None})
            continue
        made = plain.fitted(parts["tune"], nested=which == "nested")
        found = perplexity(losses(made, parts["val"]), parts["val"])
        tried.append({"cutoffs": cutoffs, "entries": plain.entries, "val": found})
        if best is None or found < best[0]:
            best = (found, made)
    assert best is not None, "no cutoffs keep to the rival's size"
    return best[1], tried


def tuned(counts: Counts, documents: Documents, most_bytes: float) -> NGram:
    """The rival's best order and cutoffs on val."""
    found: list[tuple[float, NGram]] = []
    for cutoffs in RIVAL_CUTOFFS:
        try:
            table, trials = tune(counts, documents, orders=RIVAL_ORDERS, cutoffs=cutoffs, most_bytes=most_bytes)
        except PlanError:
            continue
        found.append((trials[0].loss, table))
    return min(found, key=lambda one: one[0])[1]


def run(corpus: str, seed: int) -> dict[str, Any]:
    began = time.process_time()
    parts = split(corpus, seed)
    tokens = stream(parts["train"])[0]
    end = int(tokens[0])
    counts = Counts.of([tokens], order=max(RIVAL_ORDERS), vocab=VOCAB, end_of_document=end)
    five = NGram.of(counts.up_to(5))
    more = stream(parts["train"] + parts["tune"])[0]
    memory = woken(parts["train"])
    small, small_tried = ours(memory, parts, five, "small")
    nested, nested_tried = ours(memory, parts, five, "nested")
    models: dict[str, NGram | Cached | AttractorScorer] = {
        "KN-5": five,
        "KN-5 + tune": NGram.fit([more], order=5, vocab=VOCAB, end_of_document=end),
        "KN tuned": tuned(counts, parts["val"], five.tally().bytes),
        "KN-5 cached": Cached.fit(five, parts["tune"]),
        "small": small,
        "nested": nested,
        "nested cached": Cached.fit(nested, parts["tune"]),
    }
    nats = {name: losses(model, parts["test"]) for name, model in models.items()}
    sizes = np.array([len(one) - 1.0 for one in parts["test"]])
    pairs = [("small", "KN-5"), ("nested", "KN-5"), ("nested", "KN-5 + tune"), ("nested", "KN tuned")]
    ratios = {}
    for one, other in [*pairs, ("nested cached", "KN-5 cached")]:
        table = np.column_stack((nats[one] - nats[other], sizes))
        interval = bootstrap_interval(table, lambda sums: np.exp(sums[:, 0] / sums[:, 1]))
        value = float(np.exp(table[:, 0].sum() / sizes.sum()))
        ratios[f"{one} / {other}"] = [value, *((interval.low, interval.high) if interval else (None, None))]
    return {
        "corpus": corpus,
        "split": seed,
        "tokens": {name: sum(len(one) - 1 for one in documents) for name, documents in parts.items()},
        "documents": {name: len(documents) for name, documents in parts.items()},
        "models": {
            name: {
                "perplexity": perplexity(nats[name], parts["test"]),
                "entries": getattr(getattr(model, "table", model), "entries", None),
                "bytes": model.tally().bytes,
                "order": model.order,
            }
            for name, model in models.items()
        },
        "ratios": ratios,
        "tried on val": {"small": small_tried, "nested": nested_tried},
        "seconds of CPU": time.process_time() - began,
    }


def table(lines: Sequence[dict[str, Any]]) -> None:
    print(f"{'corpus':8} {'split':5} {'model':14} {'perplexity':>10} {'entries':>10} {'MB':>7}")
    for line in lines:
        for name, one in line["models"].items():
            size = f"{one['entries'] or 0:10,} {one['bytes'] / 1e6:7.1f}"
            print(f"{line['corpus']:8} {line['split']:5} {name:14} {one['perplexity']:10.2f} {size}")
    for line in lines:
        for name, (value, low, high) in line["ratios"].items():
            print(f"{line['corpus']:8} {line['split']:5} {name:28} {value:.4f}  [{low:.4f}, {high:.4f}]")


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
        done = [line]
    table(done)


if __name__ == "__main__":
    main()
