"""How fast batches are read, against the fastest training we know of: loading must never be what a run waits for.

    python benchmarks/loading.py [--tokens 20_000_000] [--seconds 2]

Writes a token file of random tokens, reads batches from it in several shapes (CPU time, best of rounds), and prints
tokens per second with the prediction beside it: PREDICTED were written down before the first run, from the cost of a
row (some 15 microseconds of keyed permutation and bookkeeping) and of a token (16 bytes written). The yardstick is the
fastest training of specs/performance.md, a 7M-parameter model in batches of 16 times 256 at about 450k tokens/s on an
H200 (7.5k on one core): reading is to take less than 5 % of that. Writes benchmarks/results/loading.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bloomery.data.corpus import Document
from bloomery.data.mix import Batches
from bloomery.data.tokens import TokenFile, write_token_file

RESULTS = Path(__file__).parent / "results" / "loading.json"
FASTEST_TRAINING = 450_000
"""Tokens a second of a 7M-parameter model on an H200."""
LARGEST_SHARE = 0.05

SHAPES: dict[str, dict[str, Any]] = {
    "quickstart": {"batch": 8, "context": 128},
    "small": {"batch": 16, "context": 256},
    "long": {"batch": 8, "context": 4096},
    "mixture of three": {"batch": 16, "context": 256, "shares": (0.7, 0.2, 0.1)},
    "documents": {"batch": 16, "context": 256, "packing": "documents"},
}
PREDICTED = {"quickstart": 8e6, "small": 14e6, "long": 100e6, "mixture of three": 13e6, "documents": 8e6}


class RandomIds:
    """A tokenizer that hands out random ids: what is measured is reading, not encoding."""

    kind, vocab, digest, end_of_document = "random", 32_768, "random", 0

    def __init__(self) -> None:
        self._random = np.random.default_rng(0)

    def encode_many(self, texts: list[str]) -> list[np.ndarray]:
        return [self._random.integers(1, self.vocab, size=int(text), dtype=np.uint16) for text in texts]


def documents(tokens: int) -> Iterator[Document]:
    """Lengths as of source files and web pages: log-normal around 1,000 tokens."""
    random = np.random.default_rng(1)
    number = 0
    while tokens > 0:
        length = int(min(tokens, max(1, random.lognormal(np.log(1000), 1.0))))
        yield Document(str(number), str(length))
        number, tokens = number + 1, tokens - length - 1


def measure(batches: Batches, seconds: float, rounds: int = 5) -> float:
    """Tokens per CPU second, the best of the rounds; each round reads other steps."""
    best, step = 0.0, 0
    for _ in range(rounds):
        start, first = time.process_time(), step
        while time.process_time() - start < seconds / rounds:
            batches.batch_at(step)
            step += 1
        best = max(best, (step - first) * batches.tokens_per_step / (time.process_time() - start))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--tokens", type=int, default=20_000_000)
    parser.add_argument("--seconds", type=float, default=2.0, help="CPU seconds a shape")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        file = write_token_file(Path(folder) / "random.tokens", documents(options.tokens), RandomIds())  # type: ignore[arg-type]
        print(f"wrote {len(file):,} tokens in {time.process_time() - start:.1f} CPU s")
        rows = {name: row(name, file, options.seconds) for name in SHAPES}
    facts = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tokens": options.tokens,
        "fastest_training_tokens_per_second": FASTEST_TRAINING,
        "shapes": rows,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written to {RESULTS}")


def row(name: str, file: TokenFile, seconds: float) -> dict[str, float | bool]:
    shape = dict(SHAPES[name])
    shares = shape.pop("shares", (1.0,))
    found = measure(Batches([(file, share) for share in shares], seed=0, **shape), seconds)
    share = FASTEST_TRAINING / found
    verdict = "fine" if share < LARGEST_SHARE else "TOO SLOW"
    print(
        f"{name:<18} {found / 1e6:7.1f} M tokens/s (predicted {PREDICTED[name] / 1e6:6.1f})  "
        f"{share:6.2%} of an H200's step  {verdict}"
    )
    return {
        "tokens_per_second": round(found),
        "predicted": PREDICTED[name],
        "share_of_fastest_step": round(share, 5),
        "fine": share < LARGEST_SHARE,
    }


if __name__ == "__main__":
    main()
