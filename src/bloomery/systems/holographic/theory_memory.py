"""The theory as written, as a Memory: token matrices, contexts, cells or satellites, a distributed prior, sleep.

    v4        even multivectors of `tokens.v4`; every `keep_every`-th token is an episode in the cell of its context;
              one superposition of everything
    prod      rotations of `tokens.so4`; satellites by the context's cell, and a dictionary keyed on its tokens
    grounded  tokens_as: svd or class, of the text's own neighbours (grounding.py)
    control   tokens_as: random_matrices draws every context anew, by its position: nothing can be retrieved by it

Both sleep (sleeping.py) and predict (theory_scorer.py). Windows end where a document begins, and its first token is
predicted after end_of_document. Two histories that are cut into the same reads leave the same bytes.

When the byte budget (budget.py) or `max_attractors` is met, the least salient episodes are forgotten (phi-decay ends as
a top-k of priority in the code), or nothing more is stored. Refuses token ids beyond the vocabulary, a budget that it
could not keep to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.errors import DataError
from bloomery.measure import Group, Tally
from bloomery.systems.holographic import contexts as context_of
from bloomery.systems.holographic import mechanisms, probing, recall, structure, superposition, tokens
from bloomery.systems.holographic.algebra import GOLDEN, frobenius, grace
from bloomery.systems.holographic.budget import REAL, SATELLITES, numbers_of
from bloomery.systems.holographic.chains import commutator_sums, window
from bloomery.systems.holographic.config import Theory, refuse_too_little
from bloomery.systems.holographic.decoding import Decoded
from bloomery.systems.holographic.recall import Cells, Counted, Satellites, Votes
from bloomery.systems.holographic.sleeping import Sleeper, Waiting
from bloomery.systems.holographic.theory_scorer import TheoryScorer, shared, weights_of

RECENT = 1024
"""Episodes that were stored last, which `retrieval_seen` asks for again."""
RUN, RUNS_APART, ASKED = 32, 32, 2048
"""Runs of so many tokens, one in so many, are predicted before they are read; weights are found on the last."""


class TheoryMemory:
    """See the module. It is a Memory, and the Parts of a TheoryScorer."""

    def __init__(self, settings: Theory, vocab: int, end_of_document: int, seed: int) -> None:
        self.settings, self.vocab, self.context, self.seed = settings, vocab, settings.context, seed
        self.end = end_of_document
        refuse_too_little(settings.variant, settings.store.bytes, vocab, settings.buffer)
        generator = torch.Generator().manual_seed(seed)
        prod = settings.variant == "prod"
        self.matrices = tokens.so4(vocab, generator) if prod else tokens.v4(vocab, settings.noise, generator)
        numbers = numbers_of(settings.variant)
        assert self.matrices.shape[1] == numbers
        if settings.tokens_as in ("svd", "class"):
            self.matrices = torch.zeros_like(self.matrices)  # until they are grounded (grounding.py)
        self.cells = None if prod else Cells(numbers)
        self.satellites = Satellites(numbers) if prod else None
        self.dictionary = Counted() if prod else None
        self.memory = torch.zeros(numbers, dtype=torch.float64)
        self.sleeper = Sleeper(settings, vocab, numbers, seed)
        self.unigrams = np.zeros(vocab, dtype=np.int64)
        self.position = self.stored = self.dropped = 0
        self.tail = self.heard = np.zeros(0, dtype=np.int64)
        self.recent = Waiting.none(numbers)
        self.names = ("cells", "prior") if not prod else ("satellites", "dictionary", "prior")
        if settings.mechanisms.working_memory:
            self.names = (*self.names, "working")
        self.asked = np.zeros((0, 1 + len(self.names)))
        self.calibrated: Float[np.ndarray, " k"] | None = None

    # What is known

    def scorer(self) -> TheoryScorer | Decoded:
        scorer, matrices = TheoryScorer(self), self.matrices
        return scorer if self.settings.decoding == "mixture" else Decoded(scorer, matrices, self.settings.decoding)

    def weigh(self, shares: Float[np.ndarray, "n k"]) -> None:
        self.calibrated = weights_of(shares)

    def weights(self) -> Float[np.ndarray, " k"]:
        return weights_of(self.asked) if self.calibrated is None else self.calibrated

    def unigram(self) -> Float[np.ndarray, " v"]:
        """With one observation of each token made up."""
        return (self.unigrams + 1) / (self.unigrams.sum() + self.vocab)

    def states(
        self, history: Int[np.ndarray, " t"], position: int | None = None
    ) -> tuple[Float[Tensor, "t n"], Float[Tensor, "t n"]]:
        """(contexts, signatures) after each token. position: of the first in the stream, so that what is drawn at
        random is drawn anew for each; None: the text is only scored, and each context has its own."""
        if self.settings.tokens_as == "random_matrices":
            own = recall.window_keys(history, self.context).view(np.int64)
            places = own if position is None else np.arange(position, position + len(history))
            drawn = np.column_stack([recall.uniform(places, self.seed + 1 + each) for each in range(len(self.memory))])
            found = torch.from_numpy(drawn) - 0.5
            return found / frobenius(found), found.roll(1, 0)
        matrices = self.matrices[torch.from_numpy(history)]
        turns = torch.zeros_like(matrices) if self.context == 1 else commutator_sums(matrices, self.context)
        return grace(self.products(history) + turns / GOLDEN), turns

    def products(self, history: Int[np.ndarray, " t"]) -> Float[Tensor, "t n"]:
        """Of the window that ends at each token, of norm one."""
        factors, every = self.matrices[torch.from_numpy(history)], self.settings.grace_every
        if every is not None:
            return context_of.graced_window(factors, self.context, every)
        return window(factors, min(self.context, len(history)))

    def retrieved(self, history: Int[np.ndarray, " t"], first: int, rows: int) -> Iterator[tuple[int, list[Votes]]]:
        states, keys = self.states(history)[0], recall.window_keys(history, self.context)
        for start in range(first, len(history), rows):
            # The states before are those that inhibition and working memory look back on.
            part = slice(max(0, start - mechanisms.SLOTS), min(len(history), start + rows))
            yield part.stop - start, self._retrieved(states[part], keys[part], history[part], start - part.start)

    def fired(self, history: Int[np.ndarray, " t"]) -> Float[np.ndarray, " p"]:
        return probing.fired(self.sleeper, self.states(history)[0])

    def answered(self, history: Int[np.ndarray, " t"]) -> tuple[Int[np.ndarray, " t"], Float[np.ndarray, " t"]]:
        return probing.answered(self.sleeper, self.states(history)[0])

    def _retrieved(self, states: Tensor, keys: recall.Keys, history: Int[np.ndarray, " t"], first: int) -> list[Votes]:
        asked = states[first:]
        found: list[Votes] = []
        if self.cells is not None:
            found.append(self.cells.votes(self._cell_keys(asked), asked.numpy()))
        if self.satellites is not None and self.dictionary is not None:
            found.append(self.satellites.votes(self._cell_keys(asked), asked.numpy(), self.matrices.numpy()))
            found.append(self.dictionary.votes(keys[first:]))
        before = max(0, first - mechanisms.SLOTS)
        found.append(self.sleeper.votes(states[before:], first - before))
        if self.settings.mechanisms.working_memory:
            found.append(mechanisms.working(states[before:], history[before + 1 :], first - before))
        return found

    def seen(self) -> Votes:
        """What is retrieved for the contexts stored last: by cells or satellites."""
        if self.cells is not None:
            return self.cells.votes(self._cell_keys(self.recent.states), self.recent.states.numpy())
        assert self.satellites is not None
        return self.satellites.votes(
            self._cell_keys(self.recent.states), self.recent.states.numpy(), self.matrices.numpy()
        )

    def _cell_keys(self, states: Float[Tensor, "b n"]) -> recall.Keys:
        if self.cells is not None:
            return recall.grid_keys(superposition.cells(states).numpy())
        digits = torch.floor(16 * (states[:, 5:11] + 0.5)).clamp(0, 15).long()  # bivectors: 16^6 satellites
        return recall.grid_keys(digits.numpy())

    # Awake

    def read(self, tokens: NDArray[np.integer[Any]], boundaries: NDArray[np.integer[Any]]) -> None:
        """Wake: stream tokens [n]; boundaries: where documents begin. Raises DataError for unknown ids."""
        assert self.matrices.any(), "tokens that are grounded in no text"
        tokens = np.asarray(tokens, dtype=np.int64)
        if len(tokens) and (tokens.min() < 0 or tokens.max() >= self.vocab):
            raise DataError("wake", f"token ids from {tokens.min()} to {tokens.max()}", f"0 to {self.vocab - 1}")
        begins = {int(one) for one in boundaries}
        edges = sorted({0, len(tokens), *begins})
        read: list[tuple[Tensor, Tensor, NDArray[np.uint64]]] = []
        for start, stop in pairwise(edges):
            if start in begins or not len(self.tail):
                self.tail = np.array([self.end])
            history, first = np.concatenate((self.tail, tokens[start:stop])), len(self.tail) - 1
            states, signatures = self.states(history[:-1], self.position + start - first)
            keys = recall.window_keys(history[:-1], self.context)
            self._ask(states, keys, history, first, self.position + start)
            read.append((states[first:], signatures[first:], keys[first:]))
            self.tail = history[-self.context - mechanisms.SLOTS :]
        if read:
            states, signatures = torch.cat([one[0] for one in read]), torch.cat([one[1] for one in read])
            self._learn(states, signatures, np.concatenate([one[2] for one in read]), tokens)
            self.heard = np.concatenate((self.heard, tokens))[-structure.HEARD :]

    def _ask(
        self, states: Tensor, keys: recall.Keys, history: Int[np.ndarray, " t"], first: int, position: int
    ) -> None:
        """Predict some of the tokens that are about to be learned. position: of the first of them."""
        places = np.arange(position, position + len(states) - first)
        wanted = np.flatnonzero(places // RUN % RUNS_APART == 0) + first
        for run in np.split(wanted, np.flatnonzero(np.diff(wanted) > 1) + 1) if len(wanted) else ():
            start, stop = int(run[0]), int(run[-1]) + 1
            part = slice(max(0, start - mechanisms.SLOTS), stop)
            votes = self._retrieved(states[part], keys[part], history[part], start - part.start)
            targets = history[start + 1 : stop + 1]
            shares = shared(self.unigram()[targets], votes, targets)
            self.asked = np.concatenate((self.asked, shares))[-ASKED:]
            said = votes[self.names.index("prior")].best(len(targets))
            self.sleeper.retrieved(states[start:stop][torch.from_numpy(said >= 0)], (said == targets)[said >= 0])

    def _learn(self, states: Tensor, signatures: Tensor, keys: recall.Keys, targets: Int[np.ndarray, " n"]) -> None:
        positions = np.arange(self.position, self.position + len(targets))
        self.position += len(targets)
        self.unigrams += np.bincount(targets, minlength=self.vocab)
        self.memory = self.memory + superposition.superposed(states, self.matrices[torch.from_numpy(targets)])
        fresh = Waiting(states, signatures, targets, positions)
        self.sleeper.observe(fresh)
        kept = np.flatnonzero(positions % self.settings.keep_every == 0)
        self._store(fresh.of(kept), keys[kept])
        both = self.recent.with_more(fresh.of(kept))
        self.recent = both.of(np.arange(max(0, len(both) - RECENT), len(both)))

    def _store(self, fresh: Waiting, keys: recall.Keys) -> None:
        settings = self.settings
        if settings.store.when_full == "stop" or not settings.mechanisms.forgetting:
            budget, held = settings.store.bytes, self.cells or self.dictionary
            assert held is not None
            spare = budget - self.bytes + self.sleeper.bytes - self.sleeper.most_bytes(budget)
            room = max(0, min(spare // self._width, settings.max_attractors - len(held.keys)))
            self.dropped += max(0, len(fresh) - room)
            fresh, keys = fresh.of(np.arange(min(room, len(fresh)))), keys[:room]
        self.stored += len(fresh)
        cell_keys, states = self._cell_keys(fresh.states), fresh.states.numpy()
        if self.cells is not None:
            self.cells.add(cell_keys, states, fresh.targets)
        if self.satellites is not None and self.dictionary is not None:
            most = int(SATELLITES * settings.store.bytes) // self.satellites.width
            self.satellites.add(cell_keys, states, self.matrices[torch.from_numpy(fresh.targets)].numpy(), most)
            self.dictionary.add(keys, fresh.targets)
        self._forget()

    def _forget(self) -> None:
        # The day grows: the room that it will need is not given away.
        grown = self.bytes - self.sleeper.day_bytes + self.sleeper.longest_day_bytes
        over, most = grown - self.settings.store.bytes, self.settings.max_attractors
        if self.cells is not None:
            excess = min(len(self.cells.keys), max(-(-over // self.cells.width), len(self.cells.keys) - most))
            if excess > 0:
                salient = context_of.salience(torch.from_numpy(self.cells.states)).numpy()
                order = np.argsort(-salient, kind="stable")
                self.cells.keep(np.sort(order[: len(order) - int(excess)]))
                self.dropped += int(excess)
        elif self.dictionary is not None:
            excess = max(-(-over // self.dictionary.width), len(self.dictionary.keys) - most)
            if excess > 0:
                self.dropped += self.dictionary.forget(max(0, len(self.dictionary.keys) - int(excess)))

    @property
    def _width(self) -> int:
        """The most bytes that an episode takes."""
        return sum(store.width for store in self.stores().values())

    @property
    def bytes(self) -> int:
        """Of all that the budget is for: what predicts, the superposition, the forms of REM, the episodes that wait."""
        return self._predicting + REAL * len(self.memory) + self.sleeper.bytes - self.sleeper.attractors.bytes

    @property
    def _predicting(self) -> int:
        """Token matrices as float32, counts, what is stored and the prototypes."""
        stored = sum(store.width * len(store.keys) for store in self.stores().values())
        return 4 * self.matrices.numel() + 4 * self.vocab + stored + self.sleeper.attractors.bytes

    # Asleep, and what is told

    def sleep(self, phases: Sequence[str], random: np.random.Generator) -> Mapping[str, float]:
        done = self.sleeper.sleep(phases, random, self.settings.store.bytes)
        self._forget()
        return done

    def measures(self) -> Mapping[str, float]:
        from bloomery.systems.holographic.theory_measures import measures

        return measures(self)

    def tally(self) -> Tally:
        stored = self._predicting // 4
        return Tally({"memory": Group(stored, stored, buffers=len(self.sleeper.waiting), bits=32)})

    def save(self, folder: Path) -> None:
        """Write `theory.npz` into the folder; the same bytes for the same history."""
        from bloomery.systems.holographic.theory_files import save

        save(self, folder)

    def stores(self) -> dict[str, Cells | Satellites | Counted]:
        all_of = {"cells": self.cells, "satellites": self.satellites, "dictionary": self.dictionary}
        return {name: store for name, store in all_of.items() if store is not None}
