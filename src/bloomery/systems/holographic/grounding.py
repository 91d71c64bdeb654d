"""Token multivectors that know which words are like which, from the text that a memory is about to read.

    svd      exp of the six leading coordinates of a token's vector (prototypes.vectors: PPMI of neighbours, SVD)
    class    exp of the mean of those in the token's class (of CLASSES, k-means), and a little noise of its own

Both scaled as v4's angles are: to a standard deviation of 2 noise. v4 has the even multivectors of tokens.svd, prod the
rotations of tokens.turned. What is counted is the beginning of the stream, AT_MOST tokens: no held-out text, but a
sample of tokens that weights are found on as well, so that contexts have seen how often those stand side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.systems.holographic import prototypes, tokens
from bloomery.systems.holographic.config import Theory
from bloomery.systems.holographic.theory_memory import TheoryMemory

if TYPE_CHECKING:
    from bloomery.systems.holographic.variants import Predicting
    from bloomery.systems.holographic.waking import Stream

AT_MOST = 1_000_000
CLASSES = 64


def grounded(memory: Predicting, stream: Stream, end: int) -> Predicting:
    """The memory, its tokens grounded in the first `end` tokens of the stream where its settings want that."""
    if isinstance(memory, TheoryMemory) and memory.settings.tokens_as in ("svd", "class"):
        text, _ = stream.piece(0, min(end, AT_MOST))
        memory.matrices = matrices(memory.settings, text, memory.vocab, memory.seed)
    return memory


def matrices(settings: Theory, text: Int[np.ndarray, " t"], vocab: int, seed: int) -> Float[Tensor, "v n"]:
    """A pure function of its arguments. Refuses (by assertion) a text of fewer than two tokens."""
    assert len(text) > 1
    planes = leading(text, vocab, seed) * 2 * settings.noise
    rotations = settings.variant == "prod"
    if settings.tokens_as == "svd":
        return tokens.turned(planes) if rotations else tokens.rotors(planes)
    times = np.bincount(text, minlength=vocab)
    found = prototypes.classes(planes.float(), times, prototypes.centres(planes.float(), times, CLASSES, seed))
    own, centroids = torch.from_numpy(found), torch.zeros(int(found.max()) + 1, 6, dtype=planes.dtype)
    sizes = torch.bincount(own, minlength=len(centroids)).clamp_min(1)[:, None]
    centroids = centroids.index_add(0, own, planes) / sizes
    generator = torch.Generator().manual_seed(seed)
    return tokens.of_classes(centroids, own, generator, rotations=rotations)


def leading(text: Int[np.ndarray, " t"], vocab: int, seed: int) -> Float[Tensor, "v 6"]:
    """The six leading coordinates of each token's vector, scaled to a standard deviation of 1 over those that have
    neighbours; where there are fewer the rest is zero."""
    pairs, times = np.unique(text[:-1].astype(np.int64) * vocab + text[1:], return_counts=True)
    found = prototypes.vectors(pairs // vocab, pairs % vocab, times, vocab, seed).double()[:, :6]
    there = found.norm(dim=1) > 0
    found = found / found[there].std(0).clamp_min(1e-12)
    return torch.nn.functional.pad(found, (0, 6 - found.shape[1]))
