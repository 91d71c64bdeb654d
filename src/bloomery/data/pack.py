"""How a token file is cut into rows of `context` positions: a row is one sequential slice of the memory map.

`StreamRows` (packing "stream"): windows of context + 1 tokens with stride `context`, across documents; every token of
an epoch is a target once. Each epoch's windows begin at another token, so that the tail is not always lost.
`DocumentRows` (packing "documents"): whole documents, next-fit in file order; a document longer than a row
is cut into rows. A document's first token is predicted from the end_of_document before it, as in evaluation; segments
tell documents apart, and positions after the last document are masked.

What stands in a prompt (TokenFile.prompts) is read and is not `learned`. A corpus that does not fill one row is
refused; examples, which are whole, are not.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError


@dataclass(frozen=True, slots=True)
class Row:
    """inputs and targets: the same length, at most `context`. breaks: positions at which a new document begins."""

    inputs: NDArray[Any]
    targets: NDArray[Any]
    breaks: tuple[int, ...] = ()
    learned: NDArray[np.bool_] | None = None
    """Which targets are learned from; None: all."""


class Rows(Protocol):
    """Row i of `count`, a pure function of i and the epoch's shift."""

    count: int
    tokens: int
    """Targets in one epoch."""

    def read(self, index: int, shift: int) -> Row: ...
    @property
    def shifts(self) -> int:
        """How many shifts differ; `shift` is taken below this number."""
        ...


class StreamRows:
    def __init__(self, file: TokenFile, context: int) -> None:
        self._tokens, self._context, self._learned = file.tokens, context, file.learned()
        self.count = (len(file) - 1) // context
        if self.count < 1:
            raise _too_short(file, context)
        self.tokens = self.count * context
        self.shifts = len(file) - self.tokens

    def read(self, index: int, shift: int) -> Row:
        start = index * self._context + shift
        window = self._tokens[start : start + self._context + 1]
        learned = None if self._learned is None else self._learned[start + 1 : start + self._context + 1]
        return Row(window[:-1], window[1:], learned=learned)


class DocumentRows:
    def __init__(self, file: TokenFile, context: int) -> None:
        self._tokens, self._end, self._learned = file.tokens, file.end_of_document, file.learned()
        self._starts: list[int] = file.starts.tolist()
        self._bounds = _next_fit(self._starts, context)
        self.count = len(self._bounds)
        if self.count < 1 or (len(file) < context and self._learned is None):
            raise _too_short(file, context)
        self.tokens = len(file)
        self.shifts = 1

    def read(self, index: int, shift: int) -> Row:
        first, last = self._bounds[index]
        targets = self._tokens[first:last]
        inputs = np.empty_like(targets)
        inputs[1:] = targets[:-1]
        inputs[0] = self._tokens[first - 1] if first else self._end
        low, high = bisect.bisect_left(self._starts, first), bisect.bisect_left(self._starts, last)
        learned = None if self._learned is None else self._learned[first:last]
        return Row(inputs, targets, tuple(start - first for start in self._starts[low:high]), learned)


def _next_fit(starts: list[int], context: int) -> list[tuple[int, int]]:
    """[(first, last)]: consecutive slices of at most `context` targets; only a document longer than that is cut."""
    bounds: list[tuple[int, int]] = []
    first = 0
    for begin, end in pairwise(starts):
        if end - first <= context:
            continue
        if begin > first:
            bounds.append((first, begin))
            first = begin
        while end - first > context:
            bounds.append((first, first + context))
            first += context
    if starts[-1] > first:
        bounds.append((first, starts[-1]))
    return bounds


def _too_short(file: TokenFile, context: int) -> DataError:
    return DataError(
        str(file.path),
        f"{len(file)} tokens in {file.documents} documents",
        f"more than {context} tokens, one row of the context",
        "choose a shorter context, a larger corpus, or another split",
    )
