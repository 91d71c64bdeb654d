"""The seed's decoding, put where a distribution is asked for: scores of `prior.decoded`, of which the largest is taken.

    A = sum_v p(v) E_v      p: what the parts retrieve, mixed by their weights; the unigram where they retrieve nothing.
                            E_v: the multivector of token v
    p(v) ~ exp(SHARPNESS score_v(A))

The seed takes the largest score and has no distribution: greedy text is its own, the probabilities are ours and only
keep the order. `similarity` leaves out the penalty for another vorticity, as control.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.measure import Tally
from bloomery.systems.holographic.prior import decoded
from bloomery.systems.holographic.theory_scorer import TheoryScorer, TheoryStream

SHARPNESS = 20.0


class Decoded:
    """A Scoring that says what the seed's decoding would."""

    def __init__(self, scorer: TheoryScorer, matrices: Float[Tensor, "v n"], decoding: str) -> None:
        self.inner, self.matrices = scorer, matrices
        self.vocab, self.parts, self._penalty = scorer.vocab, scorer.parts, decoding == "vorticity"

    def fitted(self, documents: Sequence[NDArray[np.int64]], *, nested: bool) -> Decoded:
        self.inner.fitted(documents, nested=nested)
        return self

    def tally(self) -> Tally:
        return self.inner.tally()

    def save(self, folder: Path) -> None:
        self.inner.save(folder)

    def document_logprobs(self, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """As TheoryScorer's."""
        tokens = np.asarray(tokens, dtype=np.int64)
        found, at = np.empty(len(tokens) - 1), 0
        for rows in self._rows_after(tokens[:-1], 0):
            found[at : at + len(rows)] = rows[np.arange(len(rows)), tokens[at + 1 : at + 1 + len(rows)]]
            at += len(rows)
        return np.log(found)

    def logprobs(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        """Each row sums to one."""
        rows = [self.after(np.asarray(row, dtype=np.int64), 0) for row in tokens.tolist()]
        return torch.from_numpy(np.log(np.stack(rows))).to(tokens.device)

    def stream(self) -> TheoryStream:
        return TheoryStream(self)

    def after(self, history: Int[np.ndarray, " t"], first: int) -> Float[np.ndarray, "m v"]:
        """[m v]: probabilities after history[: i + 1] for each i from `first` on."""
        return np.concatenate(list(self._rows_after(history, first)))

    def _rows_after(self, history: Int[np.ndarray, " t"], first: int) -> Iterator[Float[np.ndarray, "r v"]]:
        for rows in self.inner.rows_after(history, first, unigram=False):
            scores = [decoded(attractor, self.matrices, penalty=self._penalty) for attractor in
                      torch.from_numpy(rows) @ self.matrices]  # fmt: skip
            yield torch.softmax(SHARPNESS * torch.stack(scores), dim=-1).numpy()
