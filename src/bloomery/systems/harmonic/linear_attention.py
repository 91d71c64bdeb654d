"""Overlap attention of linear cost: the shared-width overlap as an inner product of positive random features.

With x' = x / h^(1/4), so that |q' - k'|^2 / 2 is the exponent of attention.py's shared width, and w ~ N(0, I),

    exp(-|q' - k'|^2 / 2) = E_w[phi_w(q') phi_w(k')],   phi_w(x) = exp(w.x - |x|^2)

(FAVOR+: Choromanski et al., ICLR 2021, arXiv 2009.14794, here for the Gaussian kernel). The features are positive:
trigonometric ones estimate the same with weights below zero. With f features (orthogonal in blocks of h, drawn from the
layer's name, not learned) attention is two sums over the keys so far, in one of three ways:

    parallel     out = (phi(Q) phi(K)^T * mask) V / the same with V = 1            2 (f + h) operations a pair
    chunked      within chunks of CHUNK as above, what came before them through the sums: what training runs
    recurrent    sums += phi(k) [v, 1];  out = phi(q) sums                         4 f h operations a token: decoding

which agree up to rounding, in at least float32. A query's features are divided by their largest, which cancels; a key's
are multiplied by e^sqrt(h), bounded by e^30 and raised by FLOOR, so that a key too far from everything, or a query far
from every key, still gives a finite mean. The sums know no positions: a window is refused by HarmonicConfig. With
rotary positions the overlap depends on distance alone, the estimate but for its error.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.measure import Group
from bloomery.model.interface import Scale
from bloomery.model.layers import BlockLinear, Positions
from bloomery.systems.harmonic.attention import of_one_length, square
from bloomery.systems.harmonic.config import CHUNK

FLOOR = 1e-6
LARGEST = 30.0


def random_features(count: int, width: int, seed: int) -> Float[Tensor, "f h"]:
    """Rows N(0, I), orthogonal in blocks of `width`: directions of a random rotation, lengths of independent draws.
    Made in float64 and rounded, so that they are the same on any machine."""
    generator = torch.Generator().manual_seed(seed)
    blocks = []
    for start in range(0, count, width):
        rows = min(width, count - start)
        square_, lengths = (torch.randn(width, width, generator=generator, dtype=torch.float64) for _ in range(2))
        turn, triangle = torch.linalg.qr(square_)
        turn = turn * triangle.diagonal().sign()
        blocks.append((turn * torch.linalg.vector_norm(lengths, dim=1)[:, None])[:rows])
    return torch.cat(blocks).float()


class RandomFeatures(nn.Module):
    """W x with the rows of `random_features`; a BlockLinear that has nothing to learn. uses: heads that read it."""

    rows: Tensor

    def __init__(self, count: int, width: int, *, name: str, uses: int) -> None:
        super().__init__()
        self.uses = uses
        rows = torch.empty(count, width)
        if not rows.is_meta:
            rows = random_features(count, width, zlib.crc32(name.encode()))
        self.register_buffer("rows", rows)

    def forward(self, x: Float[Tensor, "... h"]) -> Float[Tensor, "... f"]:
        return x @ self.rows.to(x.dtype).t()

    def initialise(self, generator: torch.Generator | None = None) -> None:
        pass

    def scales(self) -> dict[str, Scale]:
        return {}

    def tally(self) -> Group:
        count = self.rows.numel()
        return Group(0, 0, buffers=count, flops_per_token=2.0 * count * self.uses)


class LinearOverlap(nn.Module):
    """A layer's part of a state: sums of phi(k) v [b m f h] and of phi(k) [b m f], in at least float32."""

    recurrent = True

    def __init__(
        self, width: int, heads: int, kv_heads: int, *, count: int, name: str, compute_dtype: torch.dtype,
        qk_norm: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.kv_heads, self.head_width, self.compute_dtype = kv_heads, width // heads, compute_dtype
        self.qk_norm = qk_norm
        self.count = count
        self.features = RandomFeatures(count, self.head_width, name=name, uses=heads + kv_heads)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, where: Positions,
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "b t e"]:  # fmt: skip
        if self.qk_norm:
            query, key = of_one_length(query, key)
        dtype = torch.promote_types(value.dtype, torch.float32)
        scale = self.head_width**0.25
        query, key = self.of_query(query.to(dtype) * scale), self.of_key(key.to(dtype) / scale)
        out = chunked(query, key, value.to(dtype), cache, where.segments)
        return out.to(value.dtype).transpose(1, 2).flatten(2)

    def of_query(self, x: Float[Tensor, "b n t h"]) -> Float[Tensor, "b n t f"]:
        """Features of x = q / h^(1/4), up to a factor for each token; e^-|x|^2 is one."""
        exponent = self.features(x)
        return torch.exp(exponent - exponent.amax(-1, keepdim=True)) + FLOOR

    def of_key(self, x: Float[Tensor, "b m t h"]) -> Float[Tensor, "b m t f"]:
        """Features of x = k / h^(1/4), up to a factor that all keys share."""
        exponent = self.features(x) - square(x)[..., None] + math.sqrt(self.head_width)
        return torch.exp(exponent.clamp(max=LARGEST)) + FLOOR

    def empty(self, batch: int, length: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
        """As large for any length."""
        dtype = torch.promote_types(self.compute_dtype, torch.float32)
        sums = torch.zeros(batch, self.kv_heads, self.count, self.head_width, dtype=dtype, device=device)
        return sums, torch.zeros(batch, self.kv_heads, self.count, dtype=dtype, device=device)

    def linears(self) -> Iterator[BlockLinear]:
        yield self.features


def parallel(
    query: Float[Tensor, "b n t f"],
    key: Float[Tensor, "b m t f"],
    value: Float[Tensor, "b m t h"],
    segments: Int[Tensor, "b t"] | None = None,
    sums: tuple[Tensor, Tensor] | None = None,
    seen: Float[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b n t h"]:
    """Every query with every key before it of the same segment, and where `seen` is one with what `sums` holds."""
    groups, time = query.shape[1] // key.shape[1], query.shape[2]
    query = query.unflatten(1, (key.shape[1], groups))
    mask = torch.ones(time, time, dtype=torch.bool, device=query.device).tril()
    if segments is not None:
        mask = mask & (segments[:, :, None] == segments[:, None, :])[:, None, None]
    weights = (query.flatten(2, 3) @ key.transpose(2, 3)).unflatten(2, (groups, time)) * mask
    out = (weights.flatten(2, 3) @ value).unflatten(2, (groups, time))
    total = weights.sum(-1)
    if sums is not None:
        before = query if seen is None else query * seen[:, None, None, :, None]
        before = before.flatten(2, 3)
        out = out + (before @ sums[0]).unflatten(2, (groups, time))
        total = total + (before @ sums[1][..., None])[..., 0].unflatten(2, (groups, time))
    return (out / total[..., None]).flatten(1, 2)


def chunked(
    query: Float[Tensor, "b n t f"],
    key: Float[Tensor, "b m t f"],
    value: Float[Tensor, "b m t h"],
    cache: tuple[Tensor, Tensor] | None = None,
    segments: Int[Tensor, "b t"] | None = None,
    chunk: int | None = None,
) -> Float[Tensor, "b n t h"]:
    """`parallel` over one chunk after the other. cache: the sums of what came before, written in place; with a chunk of
    one token this is the recurrence. Segments stand together, so only a chunk's last one goes on into the next."""
    time, outs, chunk = query.shape[2], [], chunk or CHUNK
    sums = None if cache is None else (cache[0], cache[1])
    for start in range(0, time, chunk):
        here = slice(start, min(start + chunk, time))
        mine = None if segments is None else segments[:, here]
        seen = None if mine is None or segments is None or not start else (mine == segments[:, start - 1, None])
        seen = None if seen is None else seen.to(query.dtype)
        outs.append(parallel(query[:, :, here], key[:, :, here], value[:, :, here], mine, sums, seen))
        if here.stop == time and cache is None:
            break
        lasting = key[:, :, here]
        if mine is not None:
            lasting = lasting * (mine == mine[:, -1:]).to(key.dtype)[:, None, :, None]
        added = (lasting.transpose(2, 3) @ value[:, :, here], lasting.sum(2))
        if sums is None:
            sums = added
            continue
        kept = (1.0, 1.0) if seen is None else (seen[:, -1, None, None, None], seen[:, -1, None, None])
        sums = (sums[0] * kept[0] + added[0], sums[1] * kept[1] + added[1])
    if cache is not None and sums is not None:
        cache[0].copy_(sums[0])
        cache[1].copy_(sums[1])
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)
