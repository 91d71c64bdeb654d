"""What a context is worth to a predictor, by its length: three probes of held-out text, alike for every contender.

    perplexity   the same targets, each given the `context` tokens before it
    recall       pairs (key, value) planted in the text, asked again `distance` tokens later: of the value and three
                 other planted values, which is likeliest? Chance is 1/4. Keys are two tokens that stand side by side
                 nowhere else in the text.
    order        the nats that a target loses when the words of its context are permuted beyond the last k tokens

In the last two nothing that is asked for is ever shown where it is asked. A pure function of text, sizes and seed.
Associative recall: Arora et al. 2023, arXiv:2312.04927.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

Ids = Int[np.ndarray, " n"]
Reals = NDArray[np.float64]
OPTIONS = 4
PAIRS = 8
"""Of each distance in one text."""
STRIDE = 8
"""Tokens from one planted pair to the next, and from one question to the next."""
NEAR = 2 * PAIRS * STRIDE + 16
"""The shorter distance: pairs end just before the first question."""
OFFSETS = (0, 1, 2, 4, 16, 64, 256)
"""Edges of what `order` tells apart: how many tokens before a target stand as they stood."""


class Contender(Protocol):
    """Predicts what follows a text whose first token is history only, as end_of_document."""

    def targets(self, tokens: Ids, first: int) -> Float[np.ndarray, " m"]:
        """Natural-log probability of each of tokens[first + 1 :], given those before it."""
        ...

    def following(self, tokens: Ids, places: Sequence[int]) -> Float[np.ndarray, "p v"]:
        """Probability of every token after tokens[: place + 1], for places in rising order."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A text with its questions."""

    tokens: Ids
    places: tuple[int, ...]
    """Of the last token of each key that is asked."""
    distances: tuple[int, ...]
    options: Int[np.ndarray, "q o"]
    """The value first."""


def far(context: int) -> int:
    """The longer distance that a context of so many tokens holds."""
    return context - STRIDE * 2 - context // 16


def planted(filler: Ids, context: int, keys: Sequence[int], seed: int) -> Asked:
    """`context` tokens of the filler before the first question, and what stands between the questions after it.

    keys: ids that keys and values are drawn from."""
    random, count = np.random.default_rng((seed, context)), 2 * PAIRS
    assert len(filler) >= context + count * STRIDE, "a longer filler"
    assert far(context) > PAIRS * STRIDE
    asked = context + STRIDE * np.arange(count)
    before = asked - np.where(np.arange(count) < PAIRS, far(context), NEAR)
    while True:
        tokens = filler[: asked[-1] + 2].copy()
        wanted = random.choice(np.asarray(keys), (count, 2))
        values = random.choice(np.asarray(keys), count, replace=False)
        for number in (0, 1):
            tokens[asked + number] = tokens[before + number] = wanted[:, number]
        tokens[before + 2] = values
        twice = [((tokens[:-1] == one) & (tokens[1:] == other)).sum() == 2 for one, other in wanted]
        if all(twice):
            break
    options = np.array([[one, *random.choice(np.delete(values, at), OPTIONS - 1, replace=False)]
                        for at, one in enumerate(values)])  # fmt: skip
    return Asked(tokens, tuple((asked + 1).tolist()), tuple((asked - before).tolist()), options)


@dataclass(frozen=True, slots=True)
class Recalled:
    """Of each question."""

    distances: Int[np.ndarray, " q"]
    right: NDArray[np.bool_]
    """The value is the likeliest of its options; a tie is none."""
    first: NDArray[np.bool_]
    """The value is the likeliest of all tokens."""
    logprobs: Reals


def recall(contender: Contender, asked: Asked) -> Recalled:
    found = contender.following(asked.tokens, asked.places)
    rows = np.take_along_axis(found, asked.options, axis=1)
    return Recalled(
        np.array(asked.distances),
        rows[:, 0] > rows[:, 1:].max(1),
        found.argmax(1) == asked.options[:, 0],
        np.log(rows[:, 0]),
    )


def permuted(context: Ids, begins_word: NDArray[np.bool_], seed: int) -> Ids:
    """The same words in another order, drawn from the seed. begins_word [v]: of each id. The first token stays, as the
    history that it is."""
    starts = np.flatnonzero(begins_word[context[1:]]) + 1
    words = np.split(context, starts)
    order = np.random.default_rng(seed).permutation(np.arange(1, len(words)))
    return np.concatenate([words[0], *(words[at] for at in order)])


def order(
    contender: Contender, text: Ids, starts: Sequence[int], context: int, size: int, begins_word: NDArray[np.bool_],
    seed: int,
) -> Float[np.ndarray, "b s"]:  # fmt: skip
    """Nats that each token of the blocks text[start : start + size] loses when the words of the `context` tokens before
    its block are permuted. The token at offset j has j + 1 tokens before it as they stood: the block's first is
    preceded by the last token of the context, which keeps its place."""
    lost = []
    for start in starts:
        whole = text[start - context : start + size]
        other = whole.copy()
        other[: context - 1] = permuted(whole[: context - 1], begins_word, seed + start)
        first = context - 1
        lost.append(contender.targets(whole, first) - contender.targets(other, first))
    return np.array(lost)


def by_offset(lost: Float[np.ndarray, "b s"], statistic: Callable[[Reals], float]) -> dict[str, float]:
    """The statistic of the nats lost, by how many tokens before the target stood as they did."""
    kept = np.arange(lost.shape[1]) + 1
    found = {}
    for low, high in pairwise(OFFSETS):
        which = (kept > low) & (kept <= high)
        if which.any():
            found[f"{low + 1}-{high}" if high > low + 1 else f"{high}"] = statistic(lost[:, which])
    return found
