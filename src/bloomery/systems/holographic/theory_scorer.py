"""The theory as written as a distribution over the vocabulary: what it retrieves, mixed with a unigram, each row one.

    p = w0 unigram + sum of w_k parts_k      parts: what its memories retrieve, and the distributed prior

A part that does not know a context leaves its weight to the unigram, so each row sums to one. Weights are found by
expectation-maximisation (`weights_of`) on text that was not yet learned when it was asked: while it wakes, on a sample
of the tokens about to be read; in `calibrate`, on a split of its own. The seed's decoding (`prior.decoded`) takes the
largest similarity, which is no distribution; this is the fairest one that its parts allow.

The first token of a document is history only. Windows do not reach beyond a document.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.evaluate.caches import mixture_weights
from bloomery.measure import Tally
from bloomery.systems.holographic.recall import Votes

ROUNDS, CLOSE_ENOUGH = 100, 1e-6
ROWS = 256
"""Positions that are asked for at once: a prototype of a long memory votes for thousands of tokens."""


class Parts(Protocol):
    """What a scorer is made of."""

    vocab: int
    context: int

    def unigram(self) -> Float[np.ndarray, " v"]: ...
    def weights(self) -> Float[np.ndarray, " k"]: ...
    def weigh(self, shares: Float[np.ndarray, "n k"]) -> None:
        """Find the weights on these, once and for all."""
        ...

    def tally(self) -> Tally: ...
    def save(self, folder: Path) -> None: ...
    def retrieved(self, history: Int[np.ndarray, " t"], first: int, rows: int) -> Iterator[tuple[int, list[Votes]]]:
        """(how many, of every part what follows history[: i + 1]) for each i from `first` on, at most so many at a
        time, one after the other."""
        ...

    def fired(self, history: Int[np.ndarray, " t"]) -> Float[np.ndarray, " p"]:
        """How many contexts fall to each prototype."""
        ...

    def answered(self, history: Int[np.ndarray, " t"]) -> tuple[Int[np.ndarray, " t"], Float[np.ndarray, " t"]]:
        """The prior's likeliest token after each, and the margin of its nearest prototypes."""
        ...


class TheoryScorer:
    def __init__(self, parts: Parts) -> None:
        self.parts, self.vocab = parts, parts.vocab

    def fitted(self, documents: Sequence[NDArray[np.int64]], *, nested: bool) -> TheoryScorer:
        """Itself, with weights found on documents [n + 1], end_of_document first. There is no back-off to nest in."""
        self.parts.weigh(np.concatenate([self.shares(np.asarray(one, dtype=np.int64), 0) for one in documents]))
        return self

    def tally(self) -> Tally:
        return self.parts.tally()

    def save(self, folder: Path) -> None:
        self.parts.save(folder)

    def document_logprobs(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Natural-log probability [n] of each token after the first of tokens [n + 1], given those before it."""
        tokens = np.asarray(tokens, dtype=np.int64)
        return np.log(self.shares(tokens, 0) @ self.parts.weights())

    def shares(self, tokens: Int[np.ndarray, " n"], first: int) -> Float[np.ndarray, "m k"]:
        """What the unigram and each part give to tokens[first + 1 :]."""
        targets, unigram = tokens[first + 1 :], self.parts.unigram()
        found = [np.zeros((0, len(self.parts.weights())))]
        at = 0
        for count, votes in self.parts.retrieved(tokens[:-1], first, ROWS):
            part = targets[at : at + count]
            found.append(shared(unigram[part], votes, part))
            at += count
        return np.concatenate(found)

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Natural-log probability of every next token after each prefix, in float64; each row sums to one."""
        rows = [self.after(np.asarray(row, dtype=np.int64), 0) for row in tokens.tolist()]
        return torch.from_numpy(np.log(np.stack(rows))).to(tokens.device)

    def after(self, history: Int[np.ndarray, " t"], first: int, *, unigram: bool = True) -> Float[np.ndarray, "m v"]:
        """Probabilities after history[: i + 1] for each i from `first` on. unigram False: of parts alone, where one
        knows the context."""
        found, at = np.zeros((len(history) - first, self.vocab)), 0
        for rows in self.rows_after(history, first, unigram=unigram):
            found[at : at + len(rows)] = rows
            at += len(rows)
        return found

    def rows_after(
        self, history: Int[np.ndarray, " t"], first: int, *, unigram: bool = True
    ) -> Iterator[Float[np.ndarray, "r v"]]:
        """What `after` gives, at most ROWS rows at a time."""
        weights, own = self.parts.weights(), self.parts.unigram()
        for count, parts in self.parts.retrieved(history, first, ROWS):
            left = np.full(count, weights[0])
            out = np.zeros((count, self.vocab))
            for weight, votes in zip(weights[1:], parts, strict=True):
                np.add.at(out, (votes.rows, votes.tokens), weight * votes.weights)
                left += weight * ~votes.known(count)
            if unigram:
                yield out + left[:, None] * own
            else:
                known = out.sum(-1, keepdims=True)
                yield np.where(known > 0, out / np.where(known > 0, known, 1), own)

    def stream(self) -> TheoryStream:
        return TheoryStream(self)

    def features(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """[p]: how many contexts of tokens [n] fall to each prototype."""
        return self.parts.fired(np.asarray(tokens, dtype=np.int64))

    def answers(self, tokens: Int[Tensor, "b t"]) -> tuple[Int[Tensor, "b t"], Float[Tensor, "b t"]]:
        """What the distributed prior says comes next, and the seed's confidence in it, its margin; where it has no
        prototype, the most frequent token with none."""
        said = [self.parts.answered(np.asarray(row, dtype=np.int64)) for row in tokens.tolist()]
        frequent = int(self.parts.unigram().argmax())
        answers = np.stack([np.where(one >= 0, one, frequent) for one, _ in said])
        return torch.from_numpy(answers), torch.from_numpy(np.stack([one for _, one in said]))


class Reading(Protocol):
    """What a stream asks, with the whole window each time."""

    @property
    def parts(self) -> Parts: ...
    def after(self, history: Int[np.ndarray, " t"], first: int) -> Float[np.ndarray, "m v"]: ...


class TheoryStream:
    """Reads a text token by token. Keeps one window, and the eight contexts that parts look back on."""

    def __init__(self, scorer: Reading) -> None:
        self._scorer = scorer
        self._tokens: list[int] = []

    def push(self, token: int) -> None:
        """The next token of the text; the first is history only, as end_of_document."""
        self._tokens.append(token)
        del self._tokens[: -self._scorer.parts.context - 8]

    def probabilities(self) -> NDArray[np.float64]:
        """[v]: of every token that may come next."""
        return self._scorer.after(np.array(self._tokens, dtype=np.int64), len(self._tokens) - 1)[0]


def shared(
    unigram: Float[np.ndarray, " n"], retrieved: list[Votes], targets: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "n k"]:
    """Columns: the unigram's probability of each target, then each part's, or the unigram's where it knows nothing."""
    columns = [np.where(votes.known(len(targets)), votes.share(targets), unigram) for votes in retrieved]
    return np.column_stack((unigram, *columns))


def weights_of(shares: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Weights of the mixture, by EM; made-up observations, half of them the unigram's, hold it where it saw little."""
    every = np.ones(shares.shape[1], dtype=np.bool_)
    return mixture_weights(shares, every, rounds=ROUNDS, close_enough=CLOSE_ENOUGH)
