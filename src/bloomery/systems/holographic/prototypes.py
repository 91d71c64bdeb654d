"""Token vectors from counts, and their prototypes: what the attractor variant generalises by.

    M(t, (side, u)) = max(0, log p(t, u) / (p(t) p(u)^SMOOTHING)),  u the token before (side 0) or after (side 1) t
    vector(t)       = row t of U sqrt(S), of unit length, from the randomised SVD of M (Halko et al. 2011)
    prototypes      = k-means centres of the vectors, weighted by the root of how often a token was read

(Levy and Goldberg 2014: PPMI; Levy, Goldberg and Dagan 2015: smoothing and the root of S.) Only the COLUMNS most
frequent neighbours are columns. A token that was hardly read has a vector of noise; below LEAST readings it has no
prototype and keeps class 0, which is theirs, until it has been read more often.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from bloomery.model import kmeans

DIMENSIONS = 100
COLUMNS = 8192
SMOOTHING = 0.75
Entries = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Rows, columns and values of a sparse matrix, each place once."""
OVERSAMPLING, POWER_ITERATIONS = 16, 3
LEAST = 3


def vectors(
    before: Int[np.ndarray, " n"], after: Int[np.ndarray, " n"], times: Int[np.ndarray, " n"], vocab: int, seed: int
) -> Float[Tensor, "v d"]:
    """Unit vectors in float32, zero for a token without neighbours. (before, after, times): pairs of tokens side by
    side, and how often they were read. A pure function of its arguments."""
    left = np.bincount(before, weights=times, minlength=vocab)
    right = np.bincount(after, weights=times, minlength=vocab)
    total = times.sum()
    columns = np.full(vocab, -1)
    frequent = np.argsort(-(left + right), kind="stable")[:COLUMNS]
    columns[frequent] = np.arange(len(frequent))
    rows, places, values = [], [], []
    sides = ((after, before, right, left), (before, after, left, right))
    for side, (token, neighbour, own, other) in enumerate(sides):
        column = columns[neighbour]
        smooth = other**SMOOTHING
        expected = own[token] * (smooth / smooth.sum())[neighbour]
        log_odds = np.log(times / np.maximum(expected, 1e-300))
        kept = (column >= 0) & (log_odds > 0)
        rows.append(token[kept])
        places.append(side * len(frequent) + column[kept])
        values.append(log_odds[kept])
    assert total > 0
    entries = (np.concatenate(rows), np.concatenate(places), np.concatenate(values).astype(np.float32))
    u, s = _leading(entries, (vocab, 2 * len(frequent)), min(DIMENSIONS, vocab), seed)
    found = u * s.sqrt()
    return found / torch.linalg.vector_norm(found, dim=1, keepdim=True).clamp_min(1e-12)


def _leading(
    entries: Entries, shape: tuple[int, int], count: int, seed: int
) -> tuple[Float[Tensor, "v d"], Float[Tensor, " d"]]:
    """Left singular vectors and values of a sparse matrix, the largest first."""
    generator = torch.Generator().manual_seed(seed)
    width = min(count + OVERSAMPLING, *shape)
    rows, columns, values = entries
    matrix, other = _by_rows(rows, columns, values, shape), _by_rows(columns, rows, values, shape[::-1])
    basis = matrix @ torch.randn(shape[1], width, generator=generator)
    for _ in range(POWER_ITERATIONS):
        basis = torch.linalg.qr(basis).Q
        basis = matrix @ (other @ basis)
    basis = torch.linalg.qr(basis).Q
    small = (other @ basis).double()  # [columns, width]: the transpose of basis^T matrix
    squares, right = torch.linalg.eigh(small.t() @ small)
    return (basis @ right.float().flip(1))[:, :count], squares.clamp_min(0).sqrt().float().flip(0)[:count]


def _by_rows(rows: NDArray[np.int64], columns: NDArray[np.int64], values: NDArray[np.float32], shape: Any) -> Tensor:
    order = np.argsort(rows * shape[1] + columns)
    edges = torch.from_numpy(np.searchsorted(rows[order], np.arange(shape[0] + 1)))
    places, held = torch.from_numpy(columns[order]), torch.from_numpy(values[order])
    with warnings.catch_warnings():  # in beta, but several times faster to multiply by than a list of coordinates
        warnings.filterwarnings("ignore", message="Sparse CSR")
        return torch.sparse_csr_tensor(edges, places, held, shape, check_invariants=False)


def centres(tokens: Float[Tensor, "v d"], times: Int[np.ndarray, " v"], count: int, seed: int) -> Float[Tensor, "k d"]:
    """At most `count` of them, for the tokens that were read often enough; at least one."""
    read = times >= LEAST if (times >= LEAST).any() else np.ones(len(times), dtype=bool)
    kept, weight = torch.from_numpy(read), torch.from_numpy(np.sqrt(times[read] + 1e-12))
    return kmeans.centres(tokens[kept], weight, min(count, len(weight)), seed=seed).float()


def classes(
    tokens: Float[Tensor, "v d"], times: Int[np.ndarray, " v"], found: Float[Tensor, "k d"]
) -> Int[np.ndarray, " v"]:
    """The number of each token's prototype, from 1 on without a gap; 0 where it was read too rarely to have one.

    Some token is always in class 0, the rarest if it must be: the mass of a class without tokens would be lost."""
    nearest = torch.cdist(tokens, found).argmin(dim=1).numpy() + 1
    own = np.where(times >= LEAST, nearest, 0)
    own[np.argmin(times)] = 0
    _, numbers = np.unique(np.append(0, own), return_inverse=True)
    return numbers[1:].astype(np.int64)


def joined(
    own: Int[np.ndarray, " v"], tokens: Float[Tensor, "v d"], times: Int[np.ndarray, " v"]
) -> Int[np.ndarray, " v"]:
    """`own` with those of class 0 that were read often enough by now put to the nearest prototype, that is to the
    weighted mean of its tokens' vectors; no other token moves."""
    size = int(own.max()) + 1
    ready = (own == 0) & (times >= LEAST)
    ready[np.argmin(np.where(own == 0, times, np.iinfo(np.int64).max))] = False
    if size == 1 or not ready.any():
        return own
    weight = torch.from_numpy(np.sqrt(times)).to(tokens)
    index = torch.from_numpy(own)
    sums = torch.zeros(size, tokens.shape[1], dtype=tokens.dtype).index_add_(0, index, tokens * weight[:, None])
    mass = torch.zeros(size, dtype=tokens.dtype).index_add_(0, index, weight)
    found = (sums / mass.clamp_min(1e-12)[:, None])[1:]
    out = own.copy()
    out[ready] = torch.cdist(tokens[torch.from_numpy(ready)], found).argmin(dim=1).numpy() + 1
    return out


def emission(times: Int[np.ndarray, " v"], own: Int[np.ndarray, " v"], size: int) -> Float[np.ndarray, " v"]:
    """p(token | its class), one made-up reading a token: the tokens of a class sum to one. size: of the alphabet."""
    counts = times + 1.0
    return counts / np.bincount(own, weights=counts, minlength=size)[own]
