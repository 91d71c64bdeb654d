"""The shape of the dense reference transformer, and what it weighs in closed form. No torch here.

`DenseConfig.tally` never looks at a module: `dense.Transformer.tally` counts the modules themselves, and the tests
assert that both agree. A multiply-add counts as two operations; attention scores depend on the context and stand
apart, in `attention_flops_per_token`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bloomery.measure import Group, Tally


class DenseConfig(BaseModel):
    """A pre-norm decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1)
    width: int = Field(ge=2)
    """Features of the residual stream; a multiple of `heads`, and width / heads must be even (rotary pairs)."""
    heads: int = Field(ge=1)
    kv_heads: int | None = Field(default=None, ge=1)
    """Key and value heads, a divisor of `heads`; None: as many as `heads`."""
    feed_forward: int | None = Field(default=None, ge=1)
    """Inner features of SwiGLU; None: 8/3 of the width, rounded up to a multiple of 16 (Shazeer 2020)."""
    rope_theta: float = Field(default=10000.0, gt=1.0)
    tie_embeddings: bool = True
    """The head reads the embedding matrix. False: a head of its own."""
    norm_epsilon: float = Field(default=1e-5, gt=0.0)
    attention_window: int | None = Field(default=None, ge=1)
    """How many tokens back a token sees, itself included; None: all."""

    @model_validator(mode="after")
    def _heads_fit(self) -> DenseConfig:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if (self.width // self.heads) % 2:
            raise ValueError(f"width / heads = {self.width // self.heads} must be even: rotary positions turn pairs")
        if self.heads % self.kv_head_count:
            raise ValueError(f"kv_heads {self.kv_head_count} does not divide heads {self.heads}")
        return self

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def kv_head_count(self) -> int:
        return self.kv_heads or self.heads

    @property
    def kv_width(self) -> int:
        return self.kv_head_count * self.head_width

    @property
    def feed_forward_width(self) -> int:
        return self.feed_forward or 16 * math.ceil(8 * self.width / 3 / 16)

    def tally(self, vocab: int) -> Tally:
        """Parameters, bytes and operations by group, for `vocab` token ids.

        A tied embedding is multiplied with as the head, so its operations count; an untied one is only looked up.
        Norms cost no matrix product and count zero operations.
        """
        attention = self.layers * (2 * self.width * self.width + 2 * self.width * self.kv_width)
        feed_forward = self.layers * 3 * self.width * self.feed_forward_width
        norms = (2 * self.layers + 1) * self.width
        table = vocab * self.width
        groups = {
            "embedding": Group(table, table, flops_per_token=2.0 * table if self.tie_embeddings else 0.0),
            "attention": Group(attention, attention, flops_per_token=2.0 * attention),
            "feed_forward": Group(feed_forward, feed_forward, flops_per_token=2.0 * feed_forward),
            "norm": Group(norms, norms),
        }
        if not self.tie_embeddings:
            groups["head"] = Group(table, table, flops_per_token=2.0 * table)
        return Tally(groups)

    def made_in_a_pass(self) -> tuple[int, int]:
        """Numbers of the matrices that are not stored but made anew in every pass: of all, and of the largest."""
        return 0, 0

    def attention_flops_per_token(self, context: int) -> float:
        """Forward operations of scores and weighted values, counted without causality as is the custom (PaLM, B)."""
        return 4.0 * self.layers * self.width * min(context, self.attention_window or context)


def total(groups: Mapping[str, list[Group]]) -> dict[str, Group]:
    """Add up groups of one name. Bits become the mean over stored numbers, so that bytes add up."""
    out = {}
    for name, parts in groups.items():
        stored = sum(part.stored for part in parts)
        bits = {part.bits for part in parts}
        out[name] = Group(
            stored=stored,
            active=sum(part.active for part in parts),
            frozen=sum(part.frozen for part in parts),
            buffers=sum(part.buffers for part in parts),
            bits=bits.pop() if len(bits) == 1 else sum(part.stored * part.bits for part in parts) / max(stored, 1),
            flops_per_token=sum(part.flops_per_token for part in parts),
        )
    return out
