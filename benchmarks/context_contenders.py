"""The contenders of benchmarks/holographic_context.py: how each reads a text, and what it has to keep of it.

    Table    counts, with or without caches; attractors. Its context is its order, its caches' windows
    Theory   v4 and prod: a window's product, windows of exactly `context` tokens
    Dense    a transformer; what it is given is what it sees

`keeps(n)` are the bytes that go on being needed after n tokens in order to predict the next: ids of 4 bytes that a
window slides over, or keys and values. A 4x4 matrix alone (64 bytes) cannot drop the oldest token of a window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from bloomery.evaluate.ngram import NGram
from bloomery.evaluate.ngram_cache import Cached
from bloomery.model.dense import Transformer
from bloomery.systems.holographic.scorer import AttractorScorer
from bloomery.systems.holographic.theory_scorer import TheoryScorer

Ids = Int[np.ndarray, " n"]
ROWS = 512


class Table:
    slides = True
    """What lies beyond its context changes nothing, so that a long text can be read at once."""

    def __init__(self, model: NGram | Cached | AttractorScorer) -> None:
        self.model = model

    @property
    def bytes(self) -> float:
        return self.model.tally().bytes

    def targets(self, tokens: Ids, first: int) -> Float[np.ndarray, " m"]:
        return self.model.document_logprobs(tokens)[first:]

    def following(self, tokens: Ids, places: Sequence[int]) -> Float[np.ndarray, "p v"]:
        reader, found, wanted = self.model.stream(), [], set(places)
        for place, token in enumerate(tokens.tolist()):
            reader.push(token)
            if place in wanted:
                found.append(reader.probabilities())
        return np.stack(found)

    def stepping(self, tokens: Ids) -> Any:
        """Having read these, go on by push and probabilities."""
        reader = self.model.stream()
        for token in tokens.tolist():
            reader.push(token)
        return reader

    def keeps(self, context: int) -> int:
        windows = self.model.caches.windows if isinstance(self.model, Cached) else ()
        return 4 * min(context, max((*windows, self.model.order - 1)))


class Theory:
    slides = True

    def __init__(self, scorer: TheoryScorer) -> None:
        self.scorer = scorer

    @property
    def bytes(self) -> float:
        return self.scorer.tally().bytes

    def targets(self, tokens: Ids, first: int) -> Float[np.ndarray, " m"]:
        return np.log(self.scorer.shares(tokens, first) @ self.scorer.parts.weights())

    def following(self, tokens: Ids, places: Sequence[int]) -> Float[np.ndarray, "p v"]:
        rows = self.scorer.after(tokens[: places[-1] + 1], places[0])
        return rows[np.array(places) - places[0]]

    def stepping(self, tokens: Ids) -> Any:
        reader = self.scorer.stream()
        for token in tokens.tolist():
            reader.push(token)
        return reader

    def keeps(self, context: int) -> int:
        return 4 * min(context, self.scorer.parts.context)


class Dense:
    slides = False

    def __init__(self, model: Transformer) -> None:
        self.model = model.eval()

    @property
    def bytes(self) -> float:
        return self.model.tally().bytes

    def targets(self, tokens: Ids, first: int) -> Float[np.ndarray, " m"]:
        hidden = self._hidden(tokens[:-1])[first:]
        wanted = torch.from_numpy(tokens[first + 1 :])
        found = [self._logs(rows).gather(1, ids[:, None])[:, 0]
                 for rows, ids in zip(hidden.split(ROWS), wanted.split(ROWS), strict=True)]  # fmt: skip
        return torch.cat(found).numpy()

    def following(self, tokens: Ids, places: Sequence[int]) -> Float[np.ndarray, "p v"]:
        return self._logs(self._hidden(tokens[: places[-1] + 1])[list(places)]).exp().numpy()

    @torch.inference_mode()
    def _hidden(self, tokens: Ids) -> torch.Tensor:
        return self.model(torch.from_numpy(tokens)[None], project=False).hidden[0]

    @torch.inference_mode()
    def _logs(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.model.project(hidden).double(), dim=-1)

    def stepping(self, tokens: Ids) -> Any:
        return _DenseReader(self.model, tokens)

    def keeps(self, context: int) -> int:
        state = self.model.initial_state(1, 1)
        return context * sum(part.nbytes for pair in state.layers for part in pair)


class _DenseReader:
    def __init__(self, model: Transformer, tokens: Ids) -> None:
        self.model, self.state = model, model.initial_state(1, len(tokens) + 64)
        self._read(torch.from_numpy(tokens)[None])

    @torch.inference_mode()
    def _read(self, tokens: torch.Tensor) -> None:
        output = self.model(tokens, self.state, project=False)
        self.state, self.hidden = output.state, output.hidden[0, -1]

    def push(self, token: int) -> None:
        self._read(torch.tensor([[token]]))

    @torch.inference_mode()
    def probabilities(self) -> NDArray[np.float64]:
        return torch.softmax(self.model.project(self.hidden).double(), dim=-1).numpy()
