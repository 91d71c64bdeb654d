"""Harmonic attention: a query reads a value by how far the Gaussians of query and key overlap (spec 1.5).

The overlap of N(q, a) and N(k, b), isotropic in h features, is

    integral N(x; q, a) N(x; k, b) dx = N(q - k; 0, a + b) = (2 pi (a + b))^(-h/2) exp(-|q - k|^2 / (2 (a + b)))

With one width for all tokens, a + b = sqrt(h), its logarithm is q.k / sqrt(h) - |k|^2 / (2 sqrt(h)) and what the
softmax over keys does not see: dot-product attention with a penalty on long keys (RBF attention). That is a further
feature, q' = [q, 1], k' = [k, -|k|^2 / 2], so that the fused kernels serve it. With all keys of one length (`qk_norm`)
the penalty is a constant, and what is left is cosine attention, exactly.

    overlap                 as above
    overlap_widths          each token has widths of its own, from its features; scores [b n q k] are held whole
    overlap_unnormalised    out_i = sum_j w_ij v_j / (e^-sqrt(h) + sum_j w_ij), w the overlap itself, relative to that
                            at distance zero: a query that overlaps with nothing reads nothing. The constant is the
                            overlap of independent features of unit variance; scores are held whole

It replaces scores and saves no parameters. The form of linear cost is linear_attention.py. Refuses nothing: settings
are checked by HarmonicConfig.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.model.layers import Linear, Positions, attend, no_keys, remember, visible
from bloomery.model.parts import BlockLinear

ALIGNED = 8
"""Off the CPU the fused kernels take heads of a multiple of this many features."""
WIDTH_BOUND = 2.0
"""Widths stay within a factor of e^2 of their start."""


def of_one_length(
    query: Float[Tensor, "b n t h"], key: Float[Tensor, "b m t h"]
) -> tuple[Float[Tensor, "b n t h"], Float[Tensor, "b m t h"]]:
    """Query, which is divided by sqrt(h), and key of mean square one (Henry et al. 2020), without gains."""
    width = key.shape[-1]
    query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
    return query, key * math.sqrt(width)


class Overlap(nn.Module):
    """Shared width. penalty: without it plain dot products, which with qk_norm is cosine attention by its own name."""

    recurrent = False

    def __init__(
        self, width: int, heads: int, kv_heads: int, *, compute_dtype: torch.dtype, penalty: bool = True,
        qk_norm: bool = False, name: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.kv_heads, self.head_width, self.compute_dtype = kv_heads, width // heads, compute_dtype
        self.penalty, self.qk_norm = penalty, qk_norm

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, where: Positions,
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "b t e"]:  # fmt: skip
        if self.qk_norm:
            query, key = of_one_length(query, key)
        if self.penalty:
            query, key = penalised(query, key)
        key, value = remember(cache, key, value, where)
        if query.device.type == "cpu":
            return attend(query, key, value, where)
        room = -key.shape[-1] % ALIGNED
        query, key = F.pad(query, (0, room)), F.pad(key, (0, room))
        out = attend(query, key, F.pad(value, (0, key.shape[-1] - value.shape[-1])), where)
        return out.unflatten(-1, (query.shape[1], -1))[..., : self.head_width].flatten(-2)

    def empty(self, batch: int, length: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
        widths = (self.head_width + self.penalty, self.head_width)
        return no_keys(batch, self.kv_heads, length, widths, self.compute_dtype, device)

    def linears(self) -> Iterator[BlockLinear]:
        return iter(())


def penalised(
    query: Float[Tensor, "b n t h"], key: Float[Tensor, "b m t h"]
) -> tuple[Float[Tensor, "b n t g"], Float[Tensor, "b m t g"]]:
    """[q, 1] and [k, -|k|^2 / 2], all of it divided by sqrt(h)."""
    half = square(key) / (-2.0 * math.sqrt(key.shape[-1]))
    one = torch.ones_like(query[..., :1])
    return torch.cat((query, one), dim=-1), torch.cat((key, half.unsqueeze(-1).to(key.dtype)), dim=-1)


def square(x: Float[Tensor, "... h"]) -> Float[Tensor, "..."]:
    """|x|^2, at least in float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).square().sum(-1)


class Unnormalised(nn.Module):
    """The literal overlap, divided by its sum and a constant."""

    recurrent = False

    def __init__(
        self, width: int, heads: int, kv_heads: int, *, compute_dtype: torch.dtype, qk_norm: bool = False,
        name: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.kv_heads, self.head_width, self.compute_dtype = kv_heads, width // heads, compute_dtype
        self.qk_norm = qk_norm

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, where: Positions,
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "b t e"]:  # fmt: skip
        if self.qk_norm:
            query, key = of_one_length(query, key)
        key, value = remember(cache, key, value, where)
        root = math.sqrt(self.head_width)
        score = distances(query * root, key).div(-2.0 * root)
        score = hidden(score, where)
        sink = score.new_full((*score.shape[:-1], 1), -root)
        weights = torch.softmax(torch.cat((score, sink), dim=-1), dim=-1)[..., :-1]
        return read(weights, value)

    def empty(self, batch: int, length: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
        widths = (self.head_width, self.head_width)
        return no_keys(batch, self.kv_heads, length, widths, self.compute_dtype, device)

    def linears(self) -> Iterator[BlockLinear]:
        return iter(())


class TokenWidths(nn.Module):
    """a and b are e^(2 tanh(z / 2)) sqrt(h) / 2 with z linear in the token's features, one per query and key head.

    A score moves by h/2 times a width's logarithm: hence the gain of 2/h, with which it begins beside the shared width.
    """

    recurrent = False

    def __init__(
        self, width: int, heads: int, kv_heads: int, *, compute_dtype: torch.dtype, qk_norm: bool = False,
        name: str = "",
    ) -> None:  # fmt: skip
        super().__init__()
        self.kv_heads, self.head_width, self.compute_dtype = kv_heads, width // heads, compute_dtype
        self.qk_norm = qk_norm
        gain = 2.0 / self.head_width
        self.query_width = Linear(width, heads, group="attention", gain=gain, compute_dtype=compute_dtype)
        self.key_width = Linear(width, kv_heads, group="attention", gain=gain, compute_dtype=compute_dtype)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, where: Positions,
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "b t e"]:  # fmt: skip
        if self.qk_norm:
            query, key = of_one_length(query, key)
        root = math.sqrt(self.head_width)
        widths = self._widths(self.key_width(x)).to(key.dtype)
        remembered, value = remember(cache, torch.cat((key, widths), dim=-1), value, where)
        key = remembered[..., :-1]
        groups = query.shape[1] // key.shape[1]
        widths = self._widths(self.query_width(x)) + remembered[..., -1:].transpose(2, 3).repeat_interleave(groups, 1)
        score = distances(query * root, key).div(-2.0 * widths) - self.head_width / 2 * torch.log(widths)
        return read(torch.softmax(hidden(score, where), dim=-1), value)

    def _widths(self, z: Float[Tensor, "b t n"]) -> Float[Tensor, "b n t 1"]:
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        width = 0.5 * math.sqrt(self.head_width) * torch.exp(WIDTH_BOUND * torch.tanh(z / WIDTH_BOUND))
        return width.transpose(1, 2).unsqueeze(-1)

    def empty(self, batch: int, length: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
        widths = (self.head_width + 1, self.head_width)
        return no_keys(batch, self.kv_heads, length, widths, self.compute_dtype, device)

    def linears(self) -> Iterator[BlockLinear]:
        yield from (self.query_width, self.key_width)


def distances(query: Float[Tensor, "b n q h"], key: Float[Tensor, "b m k h"]) -> Float[Tensor, "b n q k"]:
    """|q - k|^2 of the keys that each query head reads, at least in float32."""
    groups = query.shape[1] // key.shape[1]
    query, key = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (query, key))
    inner = query.unflatten(1, (key.shape[1], groups)).flatten(2, 3) @ key.transpose(2, 3)
    inner = inner.unflatten(2, (groups, -1)).flatten(1, 2)
    return square(query)[..., None] + square(key).repeat_interleave(groups, 1)[..., None, :] - 2.0 * inner


def hidden(score: Float[Tensor, "b n q k"], where: Positions) -> Float[Tensor, "b n q k"]:
    """Minus infinity where a query does not see a key."""
    seen = visible(where, 0, score.shape[2], 0, score.shape[3], score.device)
    return score.masked_fill(~seen, -math.inf)


def read(weights: Float[Tensor, "b n q k"], value: Float[Tensor, "b m k h"]) -> Float[Tensor, "b q e"]:
    """Weighted values with heads joined."""
    groups = weights.shape[1] // value.shape[1]
    shared = weights.to(value.dtype).unflatten(1, (value.shape[1], groups)).flatten(2, 3)
    out = (shared @ value).unflatten(2, (groups, -1)).flatten(1, 2)
    return out.transpose(1, 2).flatten(2)
