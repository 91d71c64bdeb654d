"""Which of several sources a passage is from: what a model's features tell of it, beside what its words tell.

    source       a document's file (the name before `#`), or its category; its documents joined, cut into passages
    fitted on    the first half of each source's passages; judged on the second half, as many of each source
    classifier   multinomial naive Bayes, one made-up count a feature (McCallum and Nigam 1998):
                 argmax_s sum_f x_f log((N_sf + 1) / (N_s + F))

of the model's own features (model.interface.Featuring), of unigrams, and of the model's with the labels of the passages
that are fitted on shuffled, the mean of SHUFFLES times: in one of them all passages of a source err together. As many
passages of each source, so that chance is 1 / sources. Passages are the items.
Refuses fewer than two sources that are long enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from bloomery.data.tokens import TokenFile
from bloomery.errors import DataError
from bloomery.model.interface import Featuring

SHUFFLES = 50
FEWEST = 4
"""Passages of a source: two to fit on, two to judge."""


@dataclass(frozen=True, slots=True)
class Passages:
    sources: tuple[str, ...]
    tokens: list[NDArray[np.int64]]
    labels: Int[np.ndarray, " n"]
    """Of each passage its source's number."""
    judged: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Told:
    """Of each judged passage: 1 where it was put to its source; `shuffled`: how often."""

    own: Float[np.ndarray, " m"]
    unigram: Float[np.ndarray, " m"]
    shuffled: Float[np.ndarray, " m"]
    sources: int
    key: str


def passages(part: TokenFile, by: Literal["file", "category"], length: int, most: int) -> Passages:
    """most: of each source. Raises DataError where there are not two sources of FEWEST passages."""
    names = part.categories if by == "category" else [name.split("#")[0] for name in part.names]
    found: dict[str, list[NDArray[np.int64]]] = {}
    for source in sorted(set(names)):
        text = np.concatenate([part.document(number) for number, name in enumerate(names) if name == source])
        cut = [text[start : start + length].astype(np.int64) for start in range(0, len(text) - length + 1, length)]
        if len(cut) >= FEWEST:
            found[source] = cut
    if len(found) < 2:
        expected = f"two sources with {FEWEST} passages of {length} tokens"
        raise DataError(str(part.path), f"{len(found)} {by} of that length", expected, "another part, shorter passages")
    count = min(most, min(map(len, found.values())))
    half = count // 2
    tokens = [each for cut in found.values() for each in cut[:count]]
    return Passages(
        tuple(found), tokens, np.repeat(np.arange(len(found)), count), np.tile(np.arange(count) >= half, len(found))
    )


def bayes(
    fitted: Float[np.ndarray, "n f"], labels: Int[np.ndarray, " n"], judged: Float[np.ndarray, "m f"], sources: int
) -> Int[np.ndarray, " m"]:
    """The likeliest source of each of `judged`; the first of equals."""
    counts = np.stack([fitted[labels == one].sum(0) for one in range(sources)]) + 1.0
    return (judged @ np.log(counts / counts.sum(-1, keepdims=True)).T).argmax(-1)


def told(scorer: Featuring, found: Passages, key: str, seed: int = 0) -> Told:
    own = np.stack([scorer.features(each) for each in found.tokens])
    unigrams = _unigrams(found.tokens)
    rest = ~found.judged
    labels, wanted, count = found.labels[rest], found.labels[found.judged], len(found.sources)
    draw = np.random.default_rng(seed)

    def right(features: NDArray[np.float64], known: NDArray[np.int64]) -> NDArray[np.float64]:
        return (bayes(features[rest], known, features[found.judged], count) == wanted).astype(np.float64)

    shuffled = np.mean([right(own, draw.permutation(labels)) for _ in range(SHUFFLES)], axis=0)
    return Told(right(own, labels), right(unigrams, labels), shuffled, count, key)


def _unigrams(tokens: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
    known, places = np.unique(np.concatenate(tokens), return_inverse=True)
    edges = np.cumsum([0, *map(len, tokens)])
    rows = [np.bincount(places[a:b], minlength=len(known)) for a, b in pairwise(edges)]
    return np.stack(rows).astype(np.float64)
