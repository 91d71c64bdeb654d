"""Our Kneser-Ney tables against KenLM (Heafield et al. 2013), estimated and asked by its own programs.

    python benchmarks/ngram_kenlm.py FOLDER            # where KenLM's lmplz and query lie

Modified Kneser-Ney of order 5, nothing left out, on the train part of the books of holographic_static.py (split 0),
asked about val, token by token. A document is a line of KenLM's text: its ends are <s> and </s>, all other tokens their
numbers. Tokens that train does not hold are <unk> there and one id here, so both have as large a vocabulary. Prints
both perplexities and the largest difference of a token's log-probability. KenLM writes seven digits (ARPA).
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_counts import Counts, Discounts, discounts_of

ORDER = 5
Documents = Sequence[NDArray[np.int64]]


def compact(train: Documents, held_out: Documents) -> tuple[Documents, Documents, int]:
    """Documents [n + 1] between ends, in ids of the tokens of train and one, the last, for all others; how many."""
    known = np.unique(np.concatenate(list(train)))

    def of(tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        at = np.minimum(np.searchsorted(known, tokens), len(known) - 1)
        return np.where(known[at] == tokens, at, len(known))

    return [of(one) for one in train], [of(one) for one in held_out], len(known) + 1


def written(documents: Documents, file: Path) -> Path:
    """Without their ends."""
    file.write_text("".join(" ".join(map(str, one[1:-1])) + "\n" for one in documents))
    return file


def kenlm(
    programs: Path, train: Documents, held_out: Documents, order: int = ORDER
) -> tuple[NDArray[np.float64], list[Discounts]]:
    """Natural-log probability of every token of held_out after a document's first, and the discounts of each order."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        said = subprocess.run(
            [programs / "lmplz", "-o", str(order), "-S", "1G", "-T", folder, "--text", written(train, folder / "train"),
             "--arpa", folder / "arpa"],
            check=True, capture_output=True, text=True,
        ).stderr  # fmt: skip
        with written(held_out, folder / "held_out").open() as text:
            told = subprocess.run(
                [programs / "query", "-v", "word", folder / "arpa"],
                stdin=text, check=True, capture_output=True, text=True,
            ).stdout  # fmt: skip
    logs = [float(each.split()[2]) for line in told.splitlines() for each in line.split("\t") if "=" in each]
    found = re.findall(r"D1=(\S+) D2=(\S+) D3\+=(\S+)", said)
    return np.array(logs) * np.log(10), [(float(one), float(two), float(three)) for one, two, three in found]


def ours(
    train: Documents, held_out: Documents, vocab: int, order: int = ORDER, discounts: Sequence[Discounts] | None = None
) -> tuple[NDArray[np.float64], list[Discounts]]:
    """The same of our table, with our own discounts or with these."""
    tokens = np.concatenate([train[0][:1], *(one[1:] for one in train)])
    counts = Counts.of([tokens], order=order, vocab=vocab, end_of_document=int(tokens[0]))
    levels = [(level.keys, level.adjusted) for level in counts.levels]
    own = [discounts_of(each) for each in (counts.adjusted, *(adjusted for _, adjusted in levels))]
    table = NGram(vocab, counts.adjusted, levels, discounts=discounts or own)
    return np.concatenate([table.document_logprobs(one) for one in held_out]), own


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("programs", type=Path)
    programs = arguments.parse_args().programs
    from holographic_static import split

    parts = split("books", 0)
    train, val, vocab = compact(parts["train"], parts["val"])
    theirs, discounts = kenlm(programs, train, val)
    own, _ = ours(train, val, vocab)
    print(f"{len(own):,} tokens, {vocab:,} ids: KenLM {np.exp(-theirs.mean()):.4f}, ours {np.exp(-own.mean()):.4f}")
    same, _ = ours(train, val, vocab, discounts=discounts)
    print(f"largest difference of a token: {np.abs(theirs - own).max():.2g} nats")
    print(f"with KenLM's own discounts:    {np.abs(theirs - same).max():.2g}")


if __name__ == "__main__":
    main()
