"""Whether the theory's signatures hear structure, by how its tokens are made: structure.py's measures without a run.

    BLOOMERY_DATA=DATA python benchmarks/holographic_structure.py

The first 60,000 words of War and Peace, 4,096 words; what was heard is the last 16,384. Three seeds of token
matrices and of pairs; tokens of svd and class are grounded in all 60,000. Prints means, and the lowest and highest seed
of what is claimed.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch

from bloomery.data.tokenizer import train_words
from bloomery.systems.holographic import grounding, structure
from bloomery.systems.holographic.config import Theory
from bloomery.systems.holographic.theory_memory import TheoryMemory

VOCAB, READ, SEEDS = 4096, 60_000, range(3)
WAYS = (("v4", "own"), ("prod", "own"), ("v4", "svd"), ("prod", "svd"), ("v4", "class"), ("v4", "random_matrices"))
CLAIMED = ("structure_alike", "grammar_match")


def main() -> None:
    torch.set_num_threads(1)
    text = (Path(os.environ["BLOOMERY_DATA"]) / "text" / "war_and_peace_pg2600.txt").read_text(errors="replace")
    tokens = train_words([text[: 8 * READ]], VOCAB).encode(text[: 8 * READ]).astype(np.int64)[:READ]
    for variant, tokens_as in WAYS:
        found = []
        for seed in SEEDS:
            settings = Theory.model_validate({"variant": variant, "tokens_as": tokens_as})
            memory = TheoryMemory(settings, VOCAB, 0, seed)
            if tokens_as in ("svd", "class"):
                memory.matrices = grounding.matrices(settings, tokens, VOCAB, seed)
            memory.heard, memory.position = tokens[-structure.HEARD :], len(tokens)
            found.append(structure.measures(memory))
        told = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        print(f"{variant} {tokens_as}: " + ", ".join(f"{name} {value:.3f}" for name, value in told.items()))
        for name in CLAIMED:
            values = [one[name] for one in found]
            print(f"    {name} {min(values):.3f} to {max(values):.3f}", flush=True)


if __name__ == "__main__":
    main()
