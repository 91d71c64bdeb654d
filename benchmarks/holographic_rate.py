"""Samples a second and bytes of the theory's memories by length of window, as holographic/a wakes them, on a long book.

    BLOOMERY_DATA=DATA python benchmarks/holographic_rate.py --tokens 100000

A sample is a token that is read, stored and slept on: a sleep every 10,000 tokens, three cycles of REM, 500 episodes at
most, as in a hundredth of the run; tokens are read in pieces of 8,192 at most, as it does. Seconds are those of the
process, one thread; looks are left out. `awake` counts reading alone. (The attractors have no window: their rate is
`train/tokens_per_second` of the run.)
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from bloomery.data.tokenizer import train_words
from bloomery.systems.holographic.config import PHASES, Theory
from bloomery.systems.holographic.theory_memory import TheoryMemory

VOCAB = 100_000
PIECE, NIGHT = 8192, 10_000


def measured(name: str, context: int, memory: TheoryMemory, tokens: np.ndarray) -> str:
    began, asleep = time.process_time(), 0.0
    for night in range(0, len(tokens), NIGHT):
        day = tokens[night : night + NIGHT]
        for start in range(0, len(day), PIECE):
            memory.read(day[start : start + PIECE], np.arange(night + start == 0))
        slept = time.process_time()
        memory.sleep(PHASES, np.random.default_rng(night))
        asleep += time.process_time() - slept
    seconds, told = time.process_time() - began, memory.measures()
    return (
        f"{name:10} {context:7,} {len(tokens) / seconds:12,.0f} {len(tokens) / (seconds - asleep):12,.0f}"
        f" {told['memory/store_bytes']:14,.0f} {told['memory/prototypes']:11,.0f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=100_000)
    options.add_argument("--variants", nargs="*", default=["v4", "prod"])
    options.add_argument("--contexts", type=int, nargs="*", default=[256, 1024, 4096, 8192])
    told = options.parse_args()
    torch.set_num_threads(1)
    text = (Path(os.environ["BLOOMERY_DATA"]) / "text" / "war_and_peace_pg2600.txt").read_text(errors="replace")
    tokenizer = train_words([text], VOCAB)
    tokens = tokenizer.encode(text).astype(np.int64)[: told.tokens]
    end = tokenizer.end_of_document
    print(f"{'memory':10} {'context':>7} {'samples/s':>12} {'awake/s':>12} {'bytes':>14} {'prototypes':>11}")
    for variant in told.variants:
        for context in told.contexts:
            settings = Theory.model_validate(
                {"variant": variant, "context": context, "buffer": 500, "rem_cycles": 3,
                 "store": {"bytes": 1 << 32}, "max_attractors": 10**8}
            )  # fmt: skip
            print(measured(variant, context, TheoryMemory(settings, VOCAB, end, 0), tokens), flush=True)


if __name__ == "__main__":
    main()
