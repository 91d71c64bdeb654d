"""The parts of a transformer block: Linear, RMSNorm, rotary positions, causal attention, SwiGLU.

Weights are float32 masters, cast to the compute dtype where they are multiplied; there is no autocast. Softmax and norm
statistics are at least float32. On CPU attention is two matrix products per block of queries (each sees only the keys
at or before it), which is faster there than the fused kernel; on other devices it is torch's
scaled_dot_product_attention.

A `LinearFactory` makes every linear map of a block, so that a system can store weights in a way of its own; a
`MixingFactory` makes what stands between queries, keys and values and the output map, Softmax unless told otherwise.
Refuses nothing: shapes are checked by DenseConfig.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bloomery.measure import Group
from bloomery.model import eager
from bloomery.model.interface import Scale
from bloomery.model.parts import BlockLinear, LinearFactory

QUERY_BLOCK = 128
"""Queries that attend together on CPU; measured best of 64, 128, 256 at 256 to 1024 tokens."""


@runtime_checkable
class Mixing(Protocol):
    """How queries read values by keys, and what is remembered of them. Must be an nn.Module."""

    recurrent: bool
    """What is remembered is as large for any number of tokens: it is copied whole, and cannot be cut back."""

    def __call__(
        self,
        x: Float[Tensor, "b t d"],
        query: Float[Tensor, "b n t h"],
        key: Float[Tensor, "b m t h"],
        value: Float[Tensor, "b m t h"],
        where: Positions,
        cache: tuple[Tensor, Tensor] | None,
        /,
    ) -> Float[Tensor, "b t e"]:
        """x: what query, key and value were made from. query is turned and divided by sqrt(h), key turned. cache: this
        layer's part of a state, from `empty`, written in place. The result has its heads joined."""
        ...

    def empty(self, batch: int, length: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
        """Nothing remembered yet, with room for `length` tokens; the first dimension is the batch."""
        ...

    def linears(self) -> Iterator[BlockLinear]:
        """Those of its own, if any."""
        ...


@runtime_checkable
class MixingFactory(Protocol):
    """Makes the mixing of one block. name: `blocks.3.attention`."""

    def __call__(self, width: int, heads: int, kv_heads: int, *, name: str, compute_dtype: torch.dtype) -> Mixing: ...


class Linear(nn.Module):
    """y = x W^T without bias; W [outputs, inputs] ~ N(0, gain^2 / inputs) in float32."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        name: str = "",
        group: str = "feed_forward",
        gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.group, self.initial_scale, self.compute_dtype = group, gain / math.sqrt(inputs), compute_dtype
        self.weight = nn.Parameter(torch.empty(outputs, inputs))

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        return F.linear(x.to(self.compute_dtype), self.weight.to(self.compute_dtype))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        self.weight.normal_(0.0, self.initial_scale, generator=generator)

    def scales(self) -> dict[str, Scale]:
        return {"weight": Scale(self.group, self.initial_scale, decay=True, matrix=True)}

    def tally(self) -> Group:
        return Group(self.weight.numel(), self.weight.numel(), flops_per_token=2.0 * self.weight.numel())


def by_hand(x: Tensor) -> bool:
    """Whether the hand-derived gradients of eager.py are to be used: uncompiled on CPU."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * gain (Zhang and Sennrich 2019), computed in x's dtype, handed on in the compute
    dtype: cast once here, not by every linear that reads it."""

    def __init__(self, width: int, epsilon: float, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.epsilon, self.compute_dtype = epsilon, compute_dtype
        self.weight = nn.Parameter(torch.empty(width))

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        if by_hand(x):
            return cast(Tensor, eager.Normalise.apply(x, self.weight, self.epsilon, self.compute_dtype))
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.epsilon).to(self.compute_dtype)


@dataclass(frozen=True, slots=True)
class Positions:
    """What attention has to know about where tokens stand; made once per forward pass, shared by all layers."""

    cosine: Float[Tensor, "*b t h"]
    sine: Float[Tensor, "*b t h"]
    """h is half the head width; entry j belongs to the pair of features (j, j + h), as in the published Llama code.
    [b 1 t h] where every row has positions of its own."""
    first: int
    """Position of the first query: what stands before it comes from the cache."""
    window: int | None
    segments: Int[Tensor, "b t"] | None
    rows: Int[Tensor, " b"] | None = None
    """The same for every row of a cache of rows of different lengths; `first` is then the largest of them."""


def positions(
    tokens: int,
    head_width: int,
    theta: float,
    *,
    device: torch.device,
    first: int | Int[Tensor, " b"] = 0,
    window: int | None = None,
    segments: Int[Tensor, "b t"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Positions:
    """Rotation angles position * theta^(-j / h), j < h (Su et al. 2021), for `tokens` positions from `first` on."""
    if isinstance(first, Tensor):
        at = first[:, None, None, None] + torch.arange(tokens, device=device)[:, None]
        angle = at * _frequencies(head_width // 2, theta, device)
        return Positions(angle.cos().to(dtype), angle.sin().to(dtype), int(first.max()), window, segments, first)
    turns = _turns_at_once if torch.compiler.is_compiling() else _turns
    cosine, sine = turns(tokens, head_width // 2, theta, first, device, dtype)
    return Positions(cosine, sine, first, window, segments)


def _turns(
    tokens: int, half: int, theta: float, first: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Cosine and sine [tokens half]."""
    at = torch.arange(first, first + tokens, device=device, dtype=torch.float64)
    angle = at[:, None] * _frequencies(half, theta, device)
    return angle.cos().to(dtype), angle.sin().to(dtype)


def _frequencies(half: int, theta: float, device: torch.device) -> Tensor:
    return theta ** (-torch.arange(half, device=device, dtype=torch.float64) / half)


_turns_at_once = torch.library.custom_op(
    "bloomery::turns",
    _turns,
    mutates_args=(),
    schema="(int tokens, int half, float theta, int first, Device device, ScalarType dtype) -> (Tensor, Tensor)",
)
"""The same as an operator of its own, since torch.compile would otherwise put float64 sines into every kernel that
turns something: a fifth of the compiled step on CPU."""


@_turns_at_once.register_fake
def _(
    tokens: int, half: int, theta: float, first: int, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    return torch.empty(tokens, half, device=device, dtype=dtype), torch.empty(tokens, half, device=device, dtype=dtype)


def rotate(x: Float[Tensor, "b t n d"], where: Positions, scale: float = 1.0) -> Float[Tensor, "b n t d"]:
    """Turn each pair of features by its position's angle, and put heads before time."""
    cosine, sine = where.cosine * scale, where.sine * scale
    if by_hand(x):
        return cast(Tensor, eager.Rotate.apply(x, cosine.to(x.dtype), sine.to(x.dtype)))
    half = x.shape[-1] // 2
    x = x.transpose(1, 2)
    a, b = x[..., :half], x[..., half:]
    return torch.cat((a * cosine - b * sine, b * cosine + a * sine), dim=-1)


def attend(
    query: Float[Tensor, "b n q d"],
    key: Float[Tensor, "b m k d"],
    value: Float[Tensor, "b m k w"],
    where: Positions,
) -> Float[Tensor, "b q e"]:
    """Causal attention of the last q of k tokens. `query` is already divided by sqrt(d). n is a multiple of m:
    query heads n*m..., share a key head (grouped-query attention). Heads are joined in the result. Off the CPU the
    fused kernels want values as wide as keys."""
    batch, heads, queries, width = query.shape
    plain = where.window is None and where.segments is None and where.rows is None
    causal = plain and queries == key.shape[2]
    if causal and by_hand(query):
        groups = batch * key.shape[1]
        stacked = query.reshape(groups, heads // key.shape[1], queries, width)
        keys, values = key.reshape(groups, queries, width), value.reshape(groups, queries, value.shape[-1])
        out = cast(Tensor, eager.CausalAttention.apply(stacked, keys, values, QUERY_BLOCK))
        out = out.view(*query.shape[:-1], value.shape[-1])
    elif query.device.type == "cpu":
        out = _attend_in_blocks(query, key, value, where)
    else:
        bias = None
        if not causal:
            bias = visible(where, 0, queries, 0, key.shape[2], query.device)
        out = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, is_causal=causal, scale=1.0, enable_gqa=heads != key.shape[1]
        )
    return out.transpose(1, 2).reshape(batch, queries, heads * value.shape[-1])


def _attend_in_blocks(query: Tensor, key: Tensor, value: Tensor, where: Positions) -> Tensor:
    """softmax(q k^T + mask) v for one block of queries after the other."""
    batch, heads, queries, width = query.shape
    shared = heads // key.shape[1]
    statistics = torch.promote_types(query.dtype, torch.float32)
    offset = key.shape[2] - queries
    blocks = []
    for start in range(0, queries, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, queries)
        first_key, last_key = 0, offset + stop
        if where.rows is not None:
            last_key = key.shape[2]
        elif where.window is not None:
            first_key = max(0, offset + start + 1 - where.window)
        part = query[:, :, start:stop].reshape(batch * heads // shared, shared * (stop - start), width)
        keys = key[:, :, first_key:last_key].flatten(0, 1)
        values = value[:, :, first_key:last_key].flatten(0, 1)
        scores = torch.bmm(part, keys.transpose(1, 2)).view(batch, heads, stop - start, last_key - first_key)
        if stop - start > 1 or where.window is not None or where.segments is not None or where.rows is not None:
            seen = visible(where, start, stop, first_key, last_key, query.device)
            scores = scores.masked_fill(~seen, -math.inf)
        weights = torch.softmax(scores, dim=-1, dtype=statistics).to(value.dtype)
        weights = weights.view(part.shape[0], part.shape[1], last_key - first_key)
        blocks.append(torch.bmm(weights, values).view(batch, heads, stop - start, value.shape[-1]))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=2)


def visible(
    where: Positions, start: int, stop: int, first_key: int, last_key: int, device: torch.device
) -> Bool[Tensor, "..."]:
    """Which of the keys [first_key, last_key) each of the queries [start, stop) sees: [q k], or [b 1 q k] with
    segments or rows.

    Queries are counted from `where.first` or their row's, keys from the beginning of the cache.
    """
    if where.rows is None:
        at = torch.arange(where.first + start, where.first + stop, device=device)[:, None]
    else:
        at = where.rows[:, None, None, None] + torch.arange(start, stop, device=device)[:, None]
    keys = torch.arange(first_key, last_key, device=device)[None, :]
    seen = keys <= at
    if where.window is not None:
        seen = seen & (keys > at - where.window)
    if where.segments is not None:
        same = where.segments[:, start:stop, None] == where.segments[:, None, first_key:last_key]
        seen = seen & same[:, None]
    return seen


class Softmax(nn.Module):
    """softmax(q k^T + mask) v, over keys and values that are remembered [b m length h]."""

    recurrent = False

    def __init__(self, width: int, heads: int, kv_heads: int, *, name: str, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.kv_heads, self.head_width, self.compute_dtype = kv_heads, width // heads, compute_dtype

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, where: Positions,
        cache: tuple[Tensor, Tensor] | None,
    ) -> Float[Tensor, "b t e"]:  # fmt: skip
        return attend(query, *remember(cache, key, value, where), where)

    def empty(self, batch: int, length: int, *, device: torch.device) -> tuple[Tensor, Tensor]:
        widths = (self.head_width, self.head_width)
        return no_keys(batch, self.kv_heads, length, widths, self.compute_dtype, device)

    def linears(self) -> Iterator[BlockLinear]:
        return iter(())


def no_keys(
    batch: int, kv_heads: int, length: int, widths: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Keys and values of `widths` numbers each, to be written by `remember`."""
    key, value = (torch.zeros(batch, kv_heads, length, width, dtype=dtype, device=device) for width in widths)
    return key, value


def remember(
    cache: tuple[Tensor, Tensor] | None,
    key: Float[Tensor, "b m t k"],
    value: Float[Tensor, "b m t v"],
    where: Positions,
) -> tuple[Float[Tensor, "b m length k"], Float[Tensor, "b m length v"]]:
    """Write new keys and values into the cache at `where.first` or `where.rows`; all there are so far."""
    if cache is None:
        return key, value
    keys, values = cache
    batch, _, time, _ = key.shape
    if where.rows is None:
        keys[:, :, where.first : where.first + time] = key
        values[:, :, where.first : where.first + time] = value
    else:
        at = where.rows[:, None] + torch.arange(time, device=key.device)
        row = torch.arange(batch, device=key.device)[:, None]
        keys[row, :, at] = key.transpose(1, 2)
        values[row, :, at] = value.transpose(1, 2)
    return keys[:, :, : where.first + time], values[:, :, : where.first + time]


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions and an optional window."""

    def __init__(
        self,
        width: int,
        heads: int,
        kv_heads: int,
        make: LinearFactory,
        *,
        name: str,
        residual: float,
        compute_dtype: torch.dtype,
        make_mixing: MixingFactory = Softmax,
    ) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_width = heads, kv_heads, width // heads

        def linear(part: str, outputs: int, gain: float) -> nn.Module:
            made = make(
                width, outputs, name=f"{name}.{part}", group="attention", gain=gain, compute_dtype=compute_dtype
            )
            return cast(nn.Module, made)

        self.query = linear("query", width, 1.0)
        self.key = linear("key", kv_heads * self.head_width, 1.0)
        self.value = linear("value", kv_heads * self.head_width, 1.0)
        self.output = linear("output", width, residual)
        self.mixing = make_mixing(width, heads, kv_heads, name=name, compute_dtype=compute_dtype)

    def forward(
        self, x: Float[Tensor, "b t d"], where: Positions, cache: tuple[Tensor, Tensor] | None = None
    ) -> Float[Tensor, "b t d"]:
        """cache: this layer's part of a state, from its mixing's `empty`, written in place."""
        batch, time, _ = x.shape
        query = rotate(self.query(x).view(batch, time, self.heads, self.head_width), where, self.head_width**-0.5)
        key = rotate(self.key(x).view(batch, time, self.kv_heads, self.head_width), where)
        value = self.value(x).view(batch, time, self.kv_heads, self.head_width).transpose(1, 2)
        query, key = query.to(value.dtype), key.to(value.dtype)
        return self.output(self.mixing(x, query, key, value, where, cache))

    def linears(self) -> Iterator[BlockLinear]:
        """In the order in which they are drawn."""
        yield from (cast(BlockLinear, part) for part in (self.query, self.key, self.value, self.output))
        yield from self.mixing.linears()


class FeedForward(nn.Module):
    """SwiGLU: down(silu(gate(x)) * up(x)) (Shazeer 2020)."""

    def __init__(
        self, width: int, inner: int, make: LinearFactory, *, name: str, residual: float, compute_dtype: torch.dtype
    ) -> None:
        super().__init__()

        def linear(part: str, inputs: int, outputs: int, gain: float) -> nn.Module:
            made = make(
                inputs, outputs, name=f"{name}.{part}", group="feed_forward", gain=gain, compute_dtype=compute_dtype
            )
            return cast(nn.Module, made)

        self.gate = linear("gate", width, inner, 1.0)
        self.up = linear("up", width, inner, 1.0)
        self.down = linear("down", inner, width, residual)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        return self.down(F.silu(self.gate(x)) * self.up(x))
