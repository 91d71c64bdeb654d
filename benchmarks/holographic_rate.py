"""Samples a second and bytes of the memories by length of window, as holographic/a wakes them, on a long book.

    BLOOMERY_DATA=DATA python benchmarks/holographic_rate.py --tokens 100000

A sample is a token that is read, stored and slept on: a sleep every hundredth of the tokens, three cycles of REM, 500
episodes at most. Seconds are those of the process, one thread; looks are left out. `awake` counts reading alone. The
attractors have no window, so they have one line.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch

from bloomery.data.tokenizer import train_words
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.config import PHASES, Theory
from bloomery.systems.holographic.memory import Memory
from bloomery.systems.holographic.theory_memory import TheoryMemory

VOCAB = 100_000


def measured(name: str, context: int | None, memory: Memory, tokens: np.ndarray) -> str:
    began, asleep, every = time.process_time(), 0.0, max(1, len(tokens) // 100)
    for start in range(0, len(tokens), every):
        memory.read(tokens[start : start + every], np.arange(start == 0))
        slept = time.process_time()
        memory.sleep(PHASES, np.random.default_rng(start))
        asleep += time.process_time() - slept
    seconds, told = time.process_time() - began, memory.measures()
    return (
        f"{name:10} {context or '-':>7} {len(tokens) / seconds:12,.0f} {len(tokens) / (seconds - asleep):12,.0f}"
        f" {told['memory/store_bytes']:14,.0f} {told['memory/prototypes']:11,.0f}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=100_000)
    options.add_argument("--contexts", type=int, nargs="*", default=[256, 1024, 4096, 8192])
    told = options.parse_args()
    torch.set_num_threads(1)
    text = (Path(os.environ["BLOOMERY_DATA"]) / "text" / "war_and_peace_pg2600.txt").read_text(errors="replace")
    tokenizer = train_words([text], VOCAB)
    tokens = tokenizer.encode(text).astype(np.int64)[: told.tokens]
    end = tokenizer.end_of_document
    print(f"{'memory':10} {'context':>7} {'samples/s':>12} {'awake/s':>12} {'bytes':>14} {'prototypes':>11}")
    print(measured("attractor", None, Attractor(Settings(VOCAB, 1 << 30)), tokens), flush=True)
    for variant in ("v4", "prod"):
        for context in told.contexts:
            settings = Theory.model_validate(
                {"variant": variant, "context": context, "buffer": 500, "rem_cycles": 3,
                 "store": {"bytes": 1 << 32}, "max_attractors": 10**8}
            )  # fmt: skip
            print(measured(variant, context, TheoryMemory(settings, VOCAB, end, 0), tokens), flush=True)


if __name__ == "__main__":
    main()
