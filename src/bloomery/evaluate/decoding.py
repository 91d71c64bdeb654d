"""Between a model and the texts that it writes at the same time: rows that come and go, a token a step each.

`Batched` keeps one cache of many rows for a model that offers `rows`: a prompt is read alone, then its row joins the
others at their next step (continuous batching: Yu et al. 2022). `Alone` writes one text, with the model's state or,
for tests, without. `Rescored` writes with whatever has log-probabilities and no state, `Streamed` with what reads a
text token by token: an n-gram table, a memory. All give logits on the CPU in float32 or better, which their caller may
write into.

A row's logits are those that it has alone, up to rounding: a matrix product of another height may add in another order.
Nothing else passes from row to row.

Refuses more rows than there are slots, and a row longer than its room (assertions: the caller counts).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.model.interface import LanguageModel, Rows, Scorer, State, Stream, Streaming


class Decoding(Protocol):
    slots: int

    def add(self, tokens: Sequence[int], room: int) -> Float[Tensor, " v"]:
        """Logits after `tokens`; the new row is the last. `room`: tokens that it will have at most."""
        ...

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "b v"]:
        """Logits after one more token in each row."""
        ...

    def drop(self, row: int) -> None:
        """End a row; the last takes its number."""
        ...


class Alone:
    """One text at a time."""

    slots = 1

    def __init__(self, model: LanguageModel, *, use_cache: bool = True) -> None:
        self._model, self._use_cache = model, use_cache
        self._tokens: list[int] = []
        self._state: State = None

    def add(self, tokens: Sequence[int], room: int) -> Float[Tensor, " v"]:
        assert not self._tokens
        self._tokens = list(tokens)
        self._state = self._model.initial_state(1, room) if self._use_cache else None
        return self._read(self._tokens)[0]

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "b v"]:
        self._tokens.extend(tokens)
        return self._read(tokens if self._use_cache else self._tokens)

    def drop(self, row: int) -> None:
        self._tokens, self._state = [], None

    def _read(self, tokens: Sequence[int]) -> Float[Tensor, "1 v"]:
        logits, state = _last_logits(self._model, [list(tokens)], self._state)
        if self._use_cache:
            self._state = state
        return logits


class Batched:
    """As many texts as `rows` has slots."""

    def __init__(self, model: LanguageModel, rows: Rows) -> None:
        self._model, self._rows = model, rows
        self.slots = rows.slots

    @torch.inference_mode()
    def add(self, tokens: Sequence[int], room: int) -> Float[Tensor, " v"]:
        assert room <= self._rows.length
        logits, state = _last_logits(self._model, [list(tokens)], self._model.initial_state(1, len(tokens)))
        self._rows.add(state)
        return logits[0]

    @torch.inference_mode()
    def step(self, tokens: Sequence[int]) -> Float[Tensor, "b v"]:
        logits, state = _last_logits(self._model, [[token] for token in tokens], self._rows.state())
        self._rows.update(state)
        return logits

    @torch.inference_mode()
    def drop(self, row: int) -> None:
        self._rows.drop(row)


class Rescored:
    """Texts by a scorer, which reads each of them anew for every token; log-probabilities are logits."""

    def __init__(self, scorer: Scorer, slots: int = 1) -> None:
        self._scorer, self.slots = scorer, slots
        self._texts: list[list[int]] = []

    def add(self, tokens: Sequence[int], room: int) -> Float[Tensor, " v"]:
        assert len(self._texts) < self.slots
        self._texts.append(list(tokens))
        return self._read(self._texts[-1])

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "b v"]:
        for text, token in zip(self._texts, tokens, strict=True):
            text.append(token)
        return torch.stack([self._read(text) for text in self._texts])

    def drop(self, row: int) -> None:
        self._texts[row] = self._texts[-1]
        self._texts.pop()

    @torch.inference_mode()
    def _read(self, tokens: list[int]) -> Float[Tensor, " v"]:
        logprobs = self._scorer.logprobs(torch.tensor([tokens]))[0, -1]
        return logprobs.to("cpu", torch.promote_types(logprobs.dtype, torch.float32), copy=True)


class Streamed:
    """Texts by a scorer that reads each of them once."""

    def __init__(self, scorer: Streaming, slots: int = 1) -> None:
        self._scorer, self.slots = scorer, slots
        self._texts: list[Stream] = []

    def add(self, tokens: Sequence[int], room: int) -> Float[Tensor, " v"]:
        assert len(self._texts) < self.slots
        self._texts.append(self._scorer.stream())
        for token in tokens:
            self._texts[-1].push(token)
        return _logits(self._texts[-1])

    def step(self, tokens: Sequence[int]) -> Float[Tensor, "b v"]:
        for text, token in zip(self._texts, tokens, strict=True):
            text.push(token)
        return torch.stack([_logits(text) for text in self._texts])

    def drop(self, row: int) -> None:
        self._texts[row] = self._texts[-1]
        self._texts.pop()


def read_through(scorer: Streaming, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
    """Natural-log probability of every next token after each prefix, in float64, by a reader for each row."""
    out = np.empty((*tokens.shape, scorer.vocab))
    for number, row in enumerate(tokens.tolist()):
        text = scorer.stream()
        for position, token in enumerate(row):
            text.push(token)
            out[number, position] = text.probabilities()
    return torch.from_numpy(np.log(out)).to(tokens.device)


def _logits(text: Stream) -> Float[Tensor, " v"]:
    return torch.log(torch.from_numpy(text.probabilities()))


def decoding(model: LanguageModel | Scorer, *, slots: int, length: int) -> Decoding:
    """For texts of at most `length` tokens: batched where the model can, else one by one."""
    if not isinstance(model, LanguageModel):
        return Streamed(model, slots) if isinstance(model, Streaming) else Rescored(model, slots)
    rows = model.rows(slots, length) if slots > 1 else None
    return Alone(model) if rows is None else Batched(model, rows)


@torch.inference_mode()
def _last_logits(model: LanguageModel, tokens: list[list[int]], state: State) -> tuple[Float[Tensor, "b v"], State]:
    output = model(torch.tensor(tokens, device=model.head_weight().device), state, project=False)
    logits = model.project(output.hidden[:, -1])
    return logits.to("cpu", torch.promote_types(logits.dtype, torch.float32), copy=True), output.state
