"""Reading many token sequences with few forward passes: what they have in common is read once.

`pieces` reads whole sequences in padded batches; `walk` also keeps states. Sequences are cut into a head, all but the
last token of their context, and a row, that token and all of the continuation but its last token. Heads are read in
lexicographic order: then no earlier head shares more with the next one than its neighbour does. A `crop` state is cut
back to what the neighbours share; a `snapshot` state cannot be, so a copy is kept where a later head will branch off.
The rows of a head are one padded batch on copies of its state; a single row is read together with the head.

Padding stands to the right, where a causal model cannot see it; models that say `alone` get none, and no company.
Refuses nothing: requests are checked by scoring.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from bloomery.model.interface import LanguageModel, Scorer, State

POSITIONS_AT_ONCE = 8192
"""Of a padded batch, kept states included, for models; scorers give whole distributions, and get fewer."""
POSITIONS_OF_SCORERS = 2048
LEAST_SNAPSHOT = 8
"""Tokens that a kept copy of a recurrent state has to save: a chunk of its own costs a pass."""


@dataclass(frozen=True, slots=True)
class Row:
    """Tokens to be read after a head, and who reads there."""

    tokens: tuple[int, ...]
    readers: tuple[tuple[int, int], ...]
    """(request, position of the row that predicts the request's first target)."""


@dataclass(slots=True)
class Passes:
    """A counter of what was read; scoring.Scored holds its final values."""

    tokens: int = 0
    passes: int = 0


@dataclass(frozen=True, slots=True)
class Feeder:
    """Reads padded rows, and counts."""

    scorer: LanguageModel | Scorer
    device: str
    passes: Passes

    def batch(self, rows: Sequence[Sequence[int]], state: State = None) -> tuple[Tensor, State]:
        """Hidden states [b t d] of a model, log-probabilities [b t v] of a scorer; and the state afterwards."""
        width = max(len(row) for row in rows)
        tokens = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self.device)
        self.passes.tokens += tokens.numel()
        self.passes.passes += 1
        if not isinstance(self.scorer, LanguageModel):
            return self.scorer.logprobs(tokens), None
        output = self.scorer(tokens, state, project=False)
        return output.hidden, output.state


Read = tuple[Sequence[Row], Tensor]
"""Rows of one pass, and what the feeder gave for them."""


def pieces(feed: Feeder, whole: Sequence[Sequence[int]], wanted: Sequence[int]) -> Iterator[Read]:
    """Every sequence but its last token, in batches of like length."""
    scorer = feed.scorer
    alone = isinstance(scorer, LanguageModel) and scorer.sharing == "alone"
    limit = 1 if alone else POSITIONS_AT_ONCE if isinstance(scorer, LanguageModel) else POSITIONS_OF_SCORERS
    inputs = [(tuple(tokens[:-1]), request) for request, tokens in enumerate(whole)]
    rows = _rows(inputs, wanted, prefixes=not alone)
    for batch in _batches(sorted(rows, key=lambda row: -len(row.tokens)), 0, limit):
        yield batch, feed.batch([row.tokens for row in batch])[0]


def walk(feed: Feeder, whole: Sequence[Sequence[int]], wanted: Sequence[int]) -> Iterator[Read]:
    """Every sequence but its last token, from states that others left behind."""
    groups: dict[tuple[int, ...], list[tuple[tuple[int, ...], int]]] = defaultdict(list)
    for request, tokens in enumerate(whole):
        cut = len(tokens) - wanted[request] - 1
        groups[tuple(tokens[:cut])].append((tuple(tokens[cut:-1]), request))
    heads = sorted(groups)
    assert isinstance(feed.scorer, LanguageModel)
    path = _Cropped(feed, feed.scorer) if feed.scorer.sharing == "crop" else _Snapshots(feed, feed.scorer, heads)
    for number, head in enumerate(heads):
        rows = _rows(groups[head], wanted, prefixes=True)
        if len(rows) == 1:
            yield rows, path.read(number, head, rows[0].tokens)
            continue
        state = path.state_after(number, head)
        for batch in _batches(rows, len(head), POSITIONS_AT_ONCE):
            room = max(len(row.tokens) for row in batch)
            copies = feed.scorer.fork(state, batch=len(batch), keep=len(head), room=room)
            yield batch, feed.batch([row.tokens for row in batch], copies)[0]


class _Cropped:
    """One state, cut back to what the next head shares with what was read last."""

    def __init__(self, feed: Feeder, model: LanguageModel) -> None:
        self._feed, self._model = feed, model
        self._read: tuple[int, ...] = ()
        self._state: State = None

    def read(self, number: int, head: tuple[int, ...], row: tuple[int, ...]) -> Tensor:
        """What the feeder gives for `row` after `head`."""
        return self._go(head + row, at_least=len(row))[:, -len(row) :]

    def state_after(self, number: int, head: tuple[int, ...]) -> State:
        if not head:
            return self._model.initial_state(1, 0)
        self._go(head, at_least=0)
        return self._state

    def _go(self, tokens: tuple[int, ...], at_least: int) -> Tensor:
        """Read `tokens`, the last `at_least` of them anew."""
        keep = min(_shared(self._read, tokens), len(tokens) - at_least)
        room = len(tokens) - keep
        if not room:  # the state may hold more than that, which a fork leaves behind
            return torch.empty(0)
        state = (
            self._model.fork(self._state, batch=1, keep=keep, room=room)
            if keep
            else self._model.initial_state(1, len(tokens))
        )
        hidden, self._state = self._feed.batch([tokens[keep:]], state)
        self._read = tokens
        return hidden


class _Snapshots:
    """Copies of the state at the places where later heads branch off, the longest last."""

    def __init__(self, feed: Feeder, model: LanguageModel, heads: Sequence[tuple[int, ...]]) -> None:
        self._feed, self._model = feed, model
        self._shared = [_shared(one, two) for one, two in pairwise(heads)]
        """Tokens that a head has in common with the next one."""
        self._kept: list[tuple[int, State]] = []

    def read(self, number: int, head: tuple[int, ...], row: tuple[int, ...]) -> Tensor:
        done, state = self._approach(number, head, len(row))
        return self._feed.batch([head[done:] + row], state)[0][:, -len(row) :]

    def state_after(self, number: int, head: tuple[int, ...]) -> State:
        done, state = self._approach(number, head, 0)
        return self._feed.batch([head[done:]], state)[1] if done < len(head) else state

    def _approach(self, number: int, head: tuple[int, ...], room: int) -> tuple[int, State]:
        """The longest part of the head that need not be read again, after leaving a copy wherever one will be used."""
        before = self._shared[number - 1] if number else 0
        while self._kept and self._kept[-1][0] > before:
            self._kept.pop()
        done = self._kept[-1][0] if self._kept else 0
        room += len(head) - done
        state = (
            self._model.fork(self._kept[-1][1], batch=1, keep=done, room=room)
            if done
            else self._model.initial_state(1, room)
        )
        for stop in self._branches(number, done):
            _, state = self._feed.batch([head[done:stop]], state)
            done, room = stop, room - (stop - done)
            self._kept.append((stop, self._model.fork(state, batch=1, keep=stop, room=room)))
        return done, state

    def _branches(self, number: int, done: int) -> list[int]:
        """Where later heads leave this one, far enough behind what is kept already; ascending."""
        found: list[int] = []
        common = None
        for shared in self._shared[number:]:
            common = shared if common is None else min(common, shared)
            if common < done + LEAST_SNAPSHOT:
                break
            if not found or common < found[-1]:
                found.append(common)
        stops: list[int] = []
        for stop in reversed(found):
            if stop >= (stops[-1] if stops else done) + LEAST_SNAPSHOT:
                stops.append(stop)
        return stops


def _rows(inputs: Sequence[tuple[tuple[int, ...], int]], wanted: Sequence[int], *, prefixes: bool) -> list[Row]:
    """One row for equal inputs, and (`prefixes`) for those with which a longer one begins."""
    rows: list[Row] = []
    longest: tuple[int, ...] = ()
    readers: list[tuple[int, int]] = []
    for tokens, request in sorted(inputs, reverse=True):  # a sequence comes before what it begins with
        begins = longest[: len(tokens)] == tokens if prefixes else longest == tokens
        if not begins and readers:
            rows.append(Row(longest, tuple(readers)))
            readers = []
        if not readers:
            longest = tokens
        readers.append((request, len(tokens) - wanted[request]))
    return [*rows, Row(longest, tuple(readers))] if readers else rows


def _batches(rows: Sequence[Row], before: int, limit: int) -> Iterator[Sequence[Row]]:
    """As many rows as `limit` positions hold; each also takes `before` positions of a state."""
    start = 0
    while start < len(rows):
        stop, width = start, 0
        while stop < len(rows):
            width = max(width, len(rows[stop].tokens))
            if stop > start and (stop + 1 - start) * (width + before) > limit:
                break
            stop += 1
        yield rows[start:stop]
        start = stop


def _shared(one: Sequence[int], two: Sequence[int]) -> int:
    """Tokens with which both begin."""
    for place, (a, b) in enumerate(zip(one, two, strict=False)):
        if a != b:
            return place
    return min(len(one), len(two))
