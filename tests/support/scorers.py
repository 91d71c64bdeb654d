"""Scorers made by hand: without opinion, with one only, and those that know the answer for certain."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import torch


class Uniform:
    """Every token is as likely as any other."""

    def __init__(self, vocab: int) -> None:
        self.vocab = vocab

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.full((*tokens.shape, self.vocab), -math.log(self.vocab))


class Certain:
    """Nearly all probability on what `next_token` says, if it says anything; the rest is spread evenly."""

    def __init__(self, vocab: int) -> None:
        self.vocab = vocab

    def next_token(self, row: list[int]) -> dict[int, float]:
        """{token: share} after a prefix."""
        raise NotImplementedError

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        out = torch.full((*tokens.shape, self.vocab), 1e-6 / self.vocab, dtype=torch.float64)
        for number, row in enumerate(tokens.tolist()):
            for place in range(len(row)):
                for token, share in self.next_token(row[: place + 1]).items():
                    out[number, place, token] += share
        return (out / out.sum(-1, keepdim=True)).log()


class Constant(Certain):
    """Always the same token."""

    def __init__(self, vocab: int, token: int) -> None:
        super().__init__(vocab)
        self.token = token

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        row = torch.full((self.vocab,), 1e-6 / self.vocab, dtype=torch.float64)
        row[self.token] += 1
        return (row / row.sum()).log().expand(*tokens.shape, self.vocab)


class Copying(Certain):
    """Does induction exactly: what came after the last token where it stood before."""

    def next_token(self, row: list[int]) -> dict[int, float]:
        before = [place for place in range(len(row) - 1) if row[place] == row[-1]]
        return {row[before[-1] + 1]: 1.0} if before else {}


class Closing(Certain):
    """Closes the bracket that was opened last; `pairs`: {opening token: closing token}."""

    def __init__(self, vocab: int, pairs: dict[int, int]) -> None:
        super().__init__(vocab)
        self.pairs = pairs

    def next_token(self, row: list[int]) -> dict[int, float]:
        opened: list[int] = []
        for token in row:
            if token in self.pairs:
                opened.append(token)
            elif opened and token == self.pairs[opened[-1]]:
                opened.pop()
        return {self.pairs[opened[-1]]: 1.0} if opened else {}


class Remembering(Certain):
    """Knows a text by heart: after any stretch of it, what came next, as often as it did."""

    def __init__(self, vocab: int, text: np.ndarray) -> None:
        super().__init__(vocab)
        self.text = text.astype("<u4")
        self.known: dict[bytes, dict[int, float]] = {}

    def next_token(self, row: list[int]) -> dict[int, float]:
        wanted = np.array(row, dtype="<u4").tobytes()
        if wanted not in self.known:
            self.known[wanted] = self._look_up(wanted)
        return self.known[wanted]

    def _look_up(self, wanted: bytes) -> dict[int, float]:
        content = self.text.tobytes()
        found: Counter[int] = Counter()
        place = content.find(wanted)
        while place >= 0:
            after = (place + len(wanted)) // 4
            if place % 4 == 0 and after < len(self.text):
                found[int(self.text[after])] += 1
            place = content.find(wanted, place + 1)
        return {token: count / found.total() for token, count in found.items()}

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        out = torch.full((*tokens.shape, self.vocab), 1e-6 / self.vocab, dtype=torch.float64)
        for number, row in enumerate(tokens.tolist()):
            for place in range(len(row)):
                known = self.next_token(row[: place + 1])
                if not known:  # nor is it known what comes after more of it
                    break
                for token, share in known.items():
                    out[number, place, token] += share
        return (out / out.sum(-1, keepdim=True)).log()


class Saying(Certain):
    """After each of some prompts, one completion; the oracle of exact answers and of programs."""

    def __init__(self, vocab: int, texts: list[list[int]]) -> None:
        super().__init__(vocab)
        self.texts = texts

    def next_token(self, row: list[int]) -> dict[int, float]:
        for text in self.texts:
            if len(text) > len(row) and text[: len(row)] == row:
                return {text[len(row)]: 1.0}
        return {}
