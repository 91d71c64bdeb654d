"""How the contenders of benchmarks/holographic_context.py are made: on which text, with how many bytes.

Two long books of BLOOMERY_DATA. Of each: a stretch to train on, then one to find weights on (mixtures, caches, the
transformer's rate and epochs), then one to test on, its end; BPE ids learned from its first quarter. All train on the
same tokens. v4 and prod are woken anew for every context, as their window is a part of what they store, and sleep at
their cadence; Kneser-Ney and the attractors are counted once, and their caches look back 500 tokens and N. The bytes
are those of KN-5: the transformer's are within 2 %, the attractors leave out what is rare until they fit, v4 and prod
forget. The transformer is trained on rows of `--trained` tokens: to train it on longer ones is not affordable here.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bloomery.data.mix import Batch
from bloomery.data.tokenizer import Tokenizer, train_bpe
from bloomery.evaluate.caches import Caches
from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_cache import Cached
from bloomery.measure import Group, Tally
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.twin import solve
from bloomery.systems.holographic.attractor import Attractor, Settings
from bloomery.systems.holographic.config import PHASES, Store
from bloomery.systems.holographic.config import Theory as TheorySettings
from bloomery.systems.holographic.scorer import AttractorScorer
from bloomery.systems.holographic.theory_memory import TheoryMemory
from bloomery.train.loop import FitConfig, fit
from bloomery.train.optim import OptimizerConfig
from context_contenders import Dense, Table, Theory

BOOKS = ("war_and_peace_pg2600.txt", "moby_dick_pg2701.txt")
BODY = re.compile(r"\*\*\* START OF [^*]*\*\*\*\n(.*)\nEnd of (?:the )?Project Gutenberg", re.DOTALL)
"""A book without its licence, which is the same in every book."""
SHORT_CACHE = 500
CUTOFFS: tuple[dict[int, int], ...] = ({}, {5: 1}, {4: 1}, {3: 1}, {2: 1}, {2: 1, 3: 2}, {1: 1, 2: 2}, {1: 4})
SLEEP_EVERY = 25_000
RATES: tuple[tuple[float, int], ...] = ((0.02, 3), (0.04, 3), (0.04, 8))
"""Rate and epochs of the transformer that are tried."""
ROWS = 2
"""Of a batch of the transformer."""
Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Text:
    tokenizer: Tokenizer
    train: list[Ids]
    tune: list[Ids]
    """Of each book `longest` tokens of context, then the targets."""
    test: list[Ids]
    longest: int

    @property
    def begins_word(self) -> NDArray[np.bool_]:
        known = range(self.tokenizer.vocab)
        return np.array([self.tokenizer.decode([one])[:1].isspace() for one in known])

    @property
    def symbols(self) -> list[int]:
        """Ids of whole words of letters."""
        found = [self.tokenizer.decode([one]) for one in range(self.tokenizer.vocab)]
        return [at for at, text in enumerate(found) if len(text) > 2 and text[0] == " " and text[1:].isalpha()]


def text_of(options: argparse.Namespace) -> Text:
    folder = Path(os.environ["BLOOMERY_DATA"]) / "text"
    files = [(folder / name).read_text(errors="replace") for name in BOOKS]
    books = [body[1] if (body := BODY.search(one)) else one for one in files]
    tokenizer = train_bpe([book[: len(book) // 4] for book in books], options.vocab)
    ids = [one.astype(np.int64) for one in tokenizer.encode_many(books)]
    longest, each = options.longest, options.tokens // len(books)
    first, second = longest + options.tune, longest + options.targets
    assert all(len(one) >= each + first + second for one in ids), "fewer --tokens or shorter --contexts"
    assert all(len(book[: len(book) // 4]) < len(tokenizer.decode(one[: -first - second]))
               for one, book in zip(ids, books, strict=True))  # fmt: skip
    end = np.array([tokenizer.end_of_document])
    return Text(
        tokenizer,
        [np.concatenate((end, one[-first - second - each : -first - second])) for one in ids],
        [one[-first - second : -second] for one in ids],
        [one[-second:] for one in ids],
        longest,
    )


def stretch(text: Ids, longest: int, context: int) -> Ids:
    """The targets after `longest` tokens, with `context` tokens before them."""
    return text[longest - context :]


def theory(text: Text, variant: str, context: int, size: int, seed: int) -> Theory:
    settings = TheorySettings(
        variant=variant, context=context, keep_every=1, store=Store(bytes=size), rem_cycles=3,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    memory = TheoryMemory(settings, text.tokenizer.vocab, text.tokenizer.end_of_document, seed)
    whole = np.concatenate([one[1:] for one in text.train])
    begins = np.cumsum([0, *(len(one) - 1 for one in text.train[:-1])])
    edges = [*range(0, len(whole), SLEEP_EVERY), len(whole)]
    for start, stop in pairwise(edges):
        memory.read(whole[start:stop], begins[(begins >= start) & (begins < stop)] - start)
        if stop % SLEEP_EVERY == 0:
            memory.sleep(PHASES, np.random.default_rng((seed, stop)))
    scorer = memory.scorer()
    held_out = [stretch(one, text.longest, context) for one in text.tune]
    scorer.parts.weigh(np.concatenate([scorer.shares(one, context - 1) for one in held_out]))
    return Theory(scorer)


def attractors(text: Text, size: float, seed: int) -> tuple[AttractorScorer, dict[int, int]]:
    """The whole of what was counted, less what is rare until it fits."""
    settings = Settings(
        text.tokenizer.vocab, store_bytes=4 << 30, timescales=(1, 2, 3, 4, 5, 6), prototypes=(64, 256), seed=seed
    )
    memory = Attractor(settings)
    stream = np.concatenate([text.train[0][:1], *(np.append(one[1:], one[0]) for one in text.train)])
    memory.read(stream, 1 + np.cumsum([0, *(len(one) for one in text.train[:-1])]))
    memory.sleep(("non_rem", "replay"), np.random.default_rng(seed))
    for cutoffs in CUTOFFS:
        scorer = memory.scorer(cutoffs=cutoffs)
        if scorer.tally().bytes <= size:
            return scorer.fitted([one[text.longest - 1 :] for one in text.tune], nested=True), cutoffs
    raise SystemExit(f"no cutoffs of the attractors keep to {size:.0f} bytes")


def cached(model: NGram | AttractorScorer, text: Text, context: int) -> Table:
    held_out = [stretch(one, text.longest, context) for one in text.tune]
    own = [model.document_probabilities(one)[context - 1 :] for one in held_out]
    windows = sorted({min(SHORT_CACHE, context), context})
    return Table(Cached(model, Caches.fit(own, held_out, model.vocab, windows, longest=3)))


class Rows:
    """Rows of `context` tokens of the training text, in an order drawn anew for each epoch."""

    def __init__(self, text: Text, context: int, seed: int) -> None:
        whole = np.concatenate(text.train)
        self.rows = torch.from_numpy(whole[: (len(whole) - 1) // context * context].reshape(-1, context))
        self.targets = torch.from_numpy(whole[1 : self.rows.numel() + 1].reshape(-1, context))
        self.seed, self.steps = seed, len(self.rows) // ROWS

    def batch_at(self, step: int) -> Batch:
        drawn = np.random.default_rng((self.seed, step // self.steps)).permutation(len(self.rows))
        which = torch.from_numpy(drawn[step % self.steps * ROWS :][:ROWS])
        return Batch(self.rows[which], self.targets[which])


def dense(text: Text, size: float, context: int, seed: int, work: Path | None) -> tuple[Dense, list[dict[str, Any]]]:
    """The best of RATES on `tune`, and what each came to."""
    vocab = text.tokenizer.vocab
    template = DenseConfig(layers=4, heads=2, width=128)
    shape = solve(Tally({"all": Group(round(size / 4), round(size / 4))}), template, vocab, match="bytes")
    rows, tried, best = Rows(text, context, seed), list[dict[str, Any]](), None
    for rate, epochs in RATES:
        model = Transformer(
            shape, vocab, compute_dtype=torch.bfloat16, generator=torch.Generator().manual_seed(seed)
        )  # fmt: skip
        config = FitConfig(steps=epochs * rows.steps, optimizer=OptimizerConfig(lr=rate), seed=seed, threads=1)
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder) if work is None else work / f"dense-{rate}-{epochs}"
            fit(model, rows, config, checkpoint=kept)
        made = Dense(model)
        held_out = [one[start : start + context + 1] for one in text.tune
                    for start in range(text.longest - 1, len(one) - context, context)]  # fmt: skip
        loss = -float(np.mean([made.targets(row, 0).mean() for row in held_out]))
        tried.append({"rate": rate, "epochs": epochs, "tune": loss})
        if best is None or loss < best[0]:
            best = (loss, made)
    assert best is not None
    return best[1], tried


class Shop:
    """Makes contenders; what does not depend on the context is made once."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.text, self.seed = options, text_of(options), options.seed
        vocab, end = self.text.tokenizer.vocab, self.text.tokenizer.end_of_document
        self.five = NGram.fit(self.text.train, order=5, vocab=vocab, end_of_document=end)
        self.size = self.five.tally().bytes
        self._made: dict[str, tuple[Any, dict[str, Any]]] = {}

    def __call__(self, name: str, context: int) -> tuple[Any, dict[str, Any]]:
        """The contender, and what its training told."""
        base = name.partition(",")[0]
        if base in ("v4", "prod"):
            made = theory(self.text, base, context, int(self.size), self.seed)
            shares = made.scorer.parts.weights().tolist()
            return made, {"weights": dict(zip(("unigram", *made.scorer.parts.names), shares, strict=True))}
        if base not in self._made:
            if base == "KN-5":
                self._made[base] = (self.five, {})
            elif base == "unigram":
                vocab, end = self.five.vocab, self.text.tokenizer.end_of_document
                one = NGram.fit(self.text.train, order=1, vocab=vocab, end_of_document=end)
                self._made[base] = (one, {})
            elif base == "attractors":
                model, cutoffs = attractors(self.text, self.size, self.seed)
                self._made[base] = (model, {"cutoffs": cutoffs})
            else:
                trained, tried = dense(self.text, self.size, self.options.trained, self.seed, self.options.work)
                self._made[base] = (trained, {"tried": tried, "shape": trained.model.config.model_dump()})
        model, told = self._made[base]
        if base == "dense":
            return model, told
        return (cached(model, self.text, context) if name.endswith("cached") else Table(model)), told
