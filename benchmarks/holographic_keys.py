"""What a context's multivector is worth as a key of a table, next to its control: an integer hash of the same window.

    python benchmarks/holographic_keys.py

A key is good if it tells windows apart and only those: `exact` says that it cuts the text into the very same classes as
the n-grams do, so that a table keyed on it holds what an n-gram table holds. Clifford keys are the product of the
window's token matrices (so4: Haar rotations; v4: as the theory has them), every coefficient cut into 2^BITS steps.
Positions a second are CPU time of one thread, the best of `--rounds`, in turns, of everything from ids to keys.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.data.corpus import StandardLibrary
from bloomery.data.tokenizer import train_words
from bloomery.systems.holographic import tokens as matrices_of
from bloomery.systems.holographic.chains import window
from bloomery.systems.holographic.recall import Keys, grid_keys, window_keys

RESULTS = Path(__file__).parent / "results" / "holographic_keys.json"
LENGTHS = (2, 3, 5, 8, 16, 64)
BITS = 8
NOISE = 0.3
Ids = Int[np.ndarray, " n"]


def clifford_keys(ids: Ids, length: int, matrices: Float[Tensor, "v n"]) -> Keys:
    products = window(matrices[torch.from_numpy(ids)], length)  # of norm one: coefficients from -1/2 to 1/2
    return grid_keys(torch.floor(2**BITS * (products + 0.5)).long().numpy())


def ngrams(ids: Ids, length: int) -> NDArray[np.int64]:
    """A number for each window of exactly `length`, equal for equal ones: by sorting, without any hash."""
    windows = np.lib.stride_tricks.sliding_window_view(ids, length)
    return np.unique(windows, axis=0, return_inverse=True)[1].reshape(-1)


def compared(keys: Keys, grams: NDArray[np.int64], length: int) -> dict[str, Any]:
    """How many classes the keys of whole windows make, how many of them hold several n-grams, and whether the two are
    one and the same."""
    whole = np.unique(keys[length - 1 :], return_inverse=True)[1].reshape(-1)
    both = np.unique(whole * (grams.max() + 1) + grams)
    of_keys, of_grams = int(whole.max()) + 1, int(grams.max()) + 1
    shared = np.bincount(both // (grams.max() + 1))
    return {"keys": of_keys, "merged": int((shared > 1).sum()), "exact": len(both) == of_keys == of_grams}


def run(ids: Ids, vocab: int, lengths: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    tables = {"so4": matrices_of.so4(vocab, generator), "v4": matrices_of.v4(vocab, NOISE, generator)}
    makers: dict[str, Callable[[int], Keys]] = {"integer": lambda length: window_keys(ids, length)}
    for name, table in tables.items():
        makers[name] = lambda length, table=table: clifford_keys(ids, length, table)
    lines = []
    for length in lengths:
        grams = ngrams(ids, length)
        line: dict[str, Any] = {"length": length, "n-grams": int(grams.max()) + 1}
        line |= {name: {"rate": 0.0, **compared(make(length), grams, length)} for name, make in makers.items()}
        for _ in range(rounds):
            for name, make in makers.items():
                began = time.process_time()
                make(length)
                line[name]["rate"] = max(line[name]["rate"], len(ids) / (time.process_time() - began))
        lines.append(line)
        print(f"{length:3} tokens {line['n-grams']:9,} n-grams; " + "; ".join(
            f"{name} {line[name]['keys']:,} keys, {line[name]['merged']:,} merged, {line[name]['rate'] / 1e6:.2f} M/s"
            for name in makers))  # fmt: skip
    return lines


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--tokens", type=int, default=300_000)
    arguments.add_argument("--vocab", type=int, default=16384)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    texts = [one.text for one in StandardLibrary().documents()]
    tokenizer = train_words(texts, options.vocab)
    ids = np.concatenate(tokenizer.encode_many(texts)).astype(np.int64)[: options.tokens]
    lines = run(ids, options.vocab, LENGTHS, options.rounds)
    RESULTS.write_text(json.dumps({"options": vars(options), "lines": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
