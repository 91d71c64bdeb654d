"""Whether signatures (commutator sums) hear the structure of six tokens and not their words.

Structure is the sequence of the tokens' classes: k-means over PPMI-SVD vectors of the text that was heard last, which
no matrix of v4 or prod knows (of `tokens_as: class` and `svd` they are the ground, so that theirs is near-circular).
Pairs are windows of one class sequence of which at least APART tokens differ.

structure_alike      mean cosine of such pairs;  structure_pairs: how many were asked
structure_shared     of a window and itself with as many tokens, at the same places, drawn from the text: what the words
                     that a pair shares are worth
structure_random     of two windows of the text;  structure_permuted: of a pair, the second in another order
grammar_match        of a window, the nearest signature among the seconds of all pairs with APART other words has its
                     class sequence; a table keyed on class sequences has 1 by definition, and a sum of
                     commutators cannot tell two orders of the same transitions
grammar_words        the same of the window with most words at the same places;  grammar_chance: of one drawn blindly
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.systems.holographic import prototypes
from bloomery.systems.holographic.chains import commutator_sums
from bloomery.systems.holographic.contexts import similarity

if TYPE_CHECKING:
    from bloomery.systems.holographic.theory_memory import TheoryMemory

HEARD = 16_384
"""Tokens that a memory keeps for this."""
LENGTH, APART, CLASSES = 6, 3, 64
PAIRS = 512
Windows = NDArray[np.int64]


def measures(memory: TheoryMemory) -> dict[str, float]:
    """Nothing where fewer than two pairs were heard."""
    random = np.random.default_rng((memory.seed, memory.position, LENGTH))
    if len(memory.heard) < 2 * LENGTH:
        return {}
    windows = np.lib.stride_tricks.sliding_window_view(memory.heard, LENGTH)
    kinds = classes(memory.heard, memory.seed)
    sequences = np.lib.stride_tricks.sliding_window_view(kinds, LENGTH)
    one, two = pairs(windows, sequences, random)
    if len(one) < 2:
        return {}
    a, b = windows[one], windows[two]
    drawn = random.choice(memory.heard, a.shape)
    other = windows[random.integers(0, len(windows), len(one))]
    signed, second = signatures(memory, a, random), signatures(memory, b, random)

    def alike(these: Windows) -> float:
        return float(similarity(signed, signatures(memory, these, random)).mean())

    return {
        "structure_pairs": float(len(one)),
        "structure_alike": float(similarity(signed, second).mean()),
        "structure_shared": alike(np.where(a != b, drawn, a)),
        "structure_random": alike(other),
        "structure_permuted": alike(random.permuted(b, axis=1)),
        **matched(signed, second, a, b, sequences[one], sequences[two]),
    }


def classes(text: Int[np.ndarray, " t"], seed: int) -> Int[np.ndarray, " t"]:
    """Of each token in its place; 0 where it was read too rarely to have one."""
    own, placed, times = np.unique(text, return_inverse=True, return_counts=True)
    joined, often = np.unique(placed[:-1] * len(own) + placed[1:], return_counts=True)
    vectors = prototypes.vectors(joined // len(own), joined % len(own), often, len(own), seed)
    return prototypes.classes(vectors, times, prototypes.centres(vectors, times, CLASSES, seed))[placed]


def pairs(
    windows: Windows, sequences: Windows, random: np.random.Generator
) -> tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]:
    """At most PAIRS of window numbers: of one class sequence without a 0, and APART tokens that differ at least."""
    whole = np.flatnonzero((sequences > 0).all(1))
    _, group = np.unique(sequences[whole], axis=0, return_inverse=True)
    order = np.lexsort((random.random(len(whole)), group))
    first, second = whole[order[:-1]], whole[order[1:]]
    good = (group[order[:-1]] == group[order[1:]]) & ((windows[first] != windows[second]).sum(1) >= APART)
    kept = np.sort(random.permutation(np.flatnonzero(good))[:PAIRS])
    return first[kept], second[kept]


def signatures(memory: TheoryMemory, windows: Windows, random: np.random.Generator) -> Float[Tensor, "w n"]:
    """Of random_matrices drawn anew for each."""
    if memory.settings.tokens_as == "random_matrices":
        return torch.from_numpy(random.standard_normal((len(windows), len(memory.memory))))
    return commutator_sums(memory.matrices[torch.from_numpy(windows)], LENGTH)[:, -1]


def matched(
    signed: Float[Tensor, "p n"], second: Float[Tensor, "p n"], a: Windows, b: Windows, theirs: Windows, own: Windows
) -> dict[str, float]:
    """theirs, own: class sequences of a and of b."""
    shared = (a[:, None] == b[None]).sum(-1)
    allowed = shared <= LENGTH - APART
    same = (theirs[:, None] == own[None]).all(-1)
    likeness = torch.nn.functional.normalize(signed, dim=-1) @ torch.nn.functional.normalize(second, dim=-1).mT
    rows = np.arange(len(a))

    def right(scores: NDArray[np.float64]) -> float:
        return float(same[rows, np.where(allowed, scores, -np.inf).argmax(1)].mean())

    return {
        "grammar_match": right(likeness.numpy()),
        "grammar_words": right(shared.astype(np.float64)),
        "grammar_chance": float(((same & allowed).sum(1) / allowed.sum(1)).mean()),
    }
