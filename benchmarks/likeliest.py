"""Whether a target is the likeliest token, found by argmax and as evaluate.perplexity finds it.

    python benchmarks/likeliest.py

Random scores of 2^20 entries, every target the likeliest in a third of the rows; one thread; the fastest of ten rounds
of each, in turns. Writes benchmarks/results/likeliest.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bloomery.engine.artifact import write_atomically
from bloomery.evaluate.perplexity import are_likeliest

RESULTS = Path(__file__).parent / "results" / "likeliest.json"
ENTRIES = 2**20


def seconds(work: Callable[[], Tensor]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(vocab: int, dtype: torch.dtype) -> dict[str, float | int | str]:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(ENTRIES // vocab, vocab, generator=generator).to(dtype)
    targets = torch.randint(0, vocab, (len(scores),), generator=generator)
    targets[::3] = scores[::3].argmax(-1)
    by = {"argmax": lambda: scores.argmax(-1) == targets, "are_likeliest": lambda: are_likeliest(scores, targets)}
    assert torch.equal(by["argmax"](), by["are_likeliest"]())
    best = dict.fromkeys(by, float("inf"))
    for _ in range(10):
        for name, work in by.items():
            best[name] = min(best[name], seconds(work))
    rates = {name: round(len(scores) / taken) for name, taken in best.items()}
    return {"vocab": vocab, "dtype": str(dtype), **rates, "times": round(best["argmax"] / best["are_likeliest"], 1)}


def main() -> None:
    torch.set_num_threads(1)
    lines = [compare(vocab, dtype) for vocab in (257, 1024, 8192) for dtype in (torch.float32, torch.bfloat16)]
    print("| ids | | argmax, rows/s | are_likeliest, rows/s | times |\n|---|---|---|---|---|")
    for line in lines:
        print("| {vocab:,} | {dtype} | {argmax:,} | {are_likeliest:,} | {times} |".format(**line))
    facts = {"torch": torch.__version__, "lines": lines}
    write_atomically(RESULTS, (json.dumps(facts, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
