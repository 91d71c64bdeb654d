"""The reference transformer: the control of every experiment, and the frame into which a system puts its own linears.

x = embedding(tokens); x += attention(norm(x)); x += feed_forward(norm(x)) for each block; logits = norm(x) head^T.
The residual stream is float32. Refuses: packed segments together with a cache (they would need two meanings of
"before").
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bloomery.errors import TrainingError
from bloomery.measure import Group, Tally
from bloomery.model.cache import Cache, CacheRows
from bloomery.model.config import DenseConfig, total
from bloomery.model.interface import LanguageModel, Output, Scale, Sharing
from bloomery.model.layers import (
    Attention,
    BlockLinear,
    FeedForward,
    Linear,
    LinearFactory,
    Mixing,
    MixingFactory,
    Positions,
    RMSNorm,
    Shared,
    Softmax,
    positions,
)


class Block(nn.Module):
    def __init__(
        self,
        config: DenseConfig,
        make: LinearFactory,
        make_mixing: MixingFactory,
        name: str,
        compute_dtype: torch.dtype,
    ) -> None:
        super().__init__()
        residual = 1.0 / math.sqrt(2 * config.layers)
        self.attention_norm = RMSNorm(config.width, config.norm_epsilon, compute_dtype)
        self.attention = Attention(
            config.width,
            config.heads,
            config.kv_head_count,
            make,
            name=f"{name}.attention",
            residual=residual,
            compute_dtype=compute_dtype,
            make_mixing=make_mixing,
        )
        self.feed_forward_norm = RMSNorm(config.width, config.norm_epsilon, compute_dtype)
        self.feed_forward = FeedForward(
            config.width,
            config.feed_forward_width,
            make,
            name=f"{name}.feed_forward",
            residual=residual,
            compute_dtype=compute_dtype,
        )

    def forward(self, x: Tensor, where: Positions, cache: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), where, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))

    def linears(self) -> Iterator[tuple[str, BlockLinear]]:
        """(group, linear) of this block, in the order of the forward pass."""
        for part in self.attention.linears():
            yield "attention", part
        for part in (self.feed_forward.gate, self.feed_forward.up, self.feed_forward.down):
            yield "feed_forward", cast(BlockLinear, part)


class Transformer(LanguageModel):
    """A decoder of `config`'s shape over `vocab` ids, initialised from torch's current generator (or `generator`).

    make_linear: makes every linear of the blocks; embedding, head and norms stay dense. make_mixing: how the blocks'
    queries read values by keys. shared: an nn.Module of numbers that several linears are made from.
    Under `with torch.device("meta")` nothing is drawn: only shapes exist.
    """

    sharing: Sharing = "crop"

    def __init__(
        self,
        config: DenseConfig,
        vocab: int,
        *,
        make_linear: LinearFactory = Linear,
        make_mixing: MixingFactory = Softmax,
        shared: Shared | None = None,
        compute_dtype: torch.dtype = torch.float32,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config, self.vocab, self.compute_dtype = config, vocab, compute_dtype
        self.embedding = nn.Parameter(torch.empty(vocab, config.width))
        self.shared = shared
        self.blocks = nn.ModuleList(
            Block(config, make_linear, make_mixing, f"blocks.{layer}", compute_dtype) for layer in range(config.layers)
        )
        if self._mixings()[0].recurrent:
            self.sharing = "snapshot"
        self.norm = RMSNorm(config.width, config.norm_epsilon, compute_dtype)
        self.head = None if config.tie_embeddings else nn.Parameter(torch.empty(vocab, config.width))
        initialise(self, generator)

    def forward(
        self,
        tokens: Int[Tensor, "b t"],
        state: Cache | None = None,
        *,
        segments: Int[Tensor, "b t"] | None = None,
        project: bool = True,
    ) -> Output:
        if state is not None and segments is not None:
            raise TrainingError("segments", "packed segments together with a cache", "one of the two")
        where = positions(
            tokens.shape[1], self.config.head_width, self.config.rope_theta, device=tokens.device,
            first=state.filled if state is not None else 0, window=self.config.attention_window, segments=segments,
            dtype=torch.promote_types(self.compute_dtype, torch.float32),
        )  # fmt: skip
        x = F.embedding(tokens, self.embedding)
        for layer, block in enumerate(self.blocks):
            if self.activation_checkpointing and self.training and torch.is_grad_enabled():
                x = cast(Tensor, checkpoint(block, x, where, use_reentrant=False))
            else:
                x = block(x, where, state.layers[layer] if state is not None else None)
        hidden = self.norm(x)
        if state is not None:
            state = Cache(state.layers, state.filled + tokens.shape[1], state.recurrent)
        return Output(hidden, self.project(hidden) if project else None, state)

    def project(self, hidden: Float[Tensor, "... d"]) -> Float[Tensor, "... v"]:
        return F.linear(hidden.to(self.compute_dtype), self.head_weight().to(self.compute_dtype))

    def head_weight(self) -> Float[Tensor, "v d"]:
        return self.embedding if self.head is None else self.head

    def initial_state(self, batch: int, length: int) -> Cache:
        mixings, device = self._mixings(), self.embedding.device
        layers = [mixing.empty(batch, length, device=device) for mixing in mixings]
        return Cache(layers, recurrent=mixings[0].recurrent)

    def fork(self, state: Cache, *, batch: int, keep: int, room: int) -> Cache:
        assert isinstance(state.filled, int)
        assert keep == state.filled if state.recurrent else keep <= state.filled
        copy = self.initial_state(batch, keep + room)
        for new, old in zip(copy.layers, state.layers, strict=True):
            for mine, theirs in zip(new, old, strict=True):
                if state.recurrent:
                    mine.copy_(theirs.expand_as(mine))
                else:
                    mine[:, :, :keep] = theirs[:, :, :keep]
        return Cache(copy.layers, keep, state.recurrent)

    def rows(self, slots: int, length: int) -> CacheRows:
        return CacheRows(self.initial_state(slots, length), length)

    def _mixings(self) -> list[Mixing]:
        return [cast(Block, block).attention.mixing for block in self.blocks]

    def scales(self) -> dict[str, Scale]:
        out = {"embedding": Scale("embedding", self.config.width**-0.5, decay=True, matrix=False)}
        if self.head is not None:
            out["head"] = Scale("head", self.config.width**-0.5, decay=True, matrix=False)
        for name, module in self.named_modules():
            if isinstance(module, RMSNorm):
                out[f"{name}.weight"] = Scale("norm", 1.0, decay=False, matrix=False)
        if self.shared is not None:
            out.update({f"shared.{local}": scale for local, scale in self.shared.scales().items()})
        names = {module: name for name, module in self.named_modules()}
        for block in self.blocks:
            for _, linear in cast(Block, block).linears():
                prefix = names[cast(nn.Module, linear)]
                out.update({f"{prefix}.{local}": scale for local, scale in linear.scales().items()})
        return out

    def tally(self) -> Tally:
        """Counted from the parameters; `dense_equivalent` is given where the linears are not stored densely."""
        groups: dict[str, list[Group]] = defaultdict(list)
        table = self.embedding.numel()
        groups["embedding"].append(Group(table, table, flops_per_token=0.0 if self.head is not None else 2.0 * table))
        for block in self.blocks:
            for group, linear in cast(Block, block).linears():
                groups[group].append(linear.tally())
        if self.shared is not None:
            groups["shared"].append(self.shared.tally())
        for module in self.modules():
            if isinstance(module, RMSNorm):
                groups["norm"].append(Group(module.weight.numel(), module.weight.numel()))
        if self.head is not None:
            groups["head"].append(Group(self.head.numel(), self.head.numel(), flops_per_token=2.0 * self.head.numel()))
        counted = Tally(total(groups))
        stored_densely = self.config.tally(self.vocab).stored
        return counted if counted.stored == stored_densely else Tally(counted.groups, stored_densely)


@torch.no_grad()
def initialise(model: Transformer, generator: torch.Generator | None = None) -> None:
    """All initialisation of the dense model. Order: embedding, what is shared, blocks from the first, head.

    | tensor                              | distribution                                                     |
    |-------------------------------------|------------------------------------------------------------------|
    | embedding, head [v d]               | N(0, 1 / width): first logits of scale one                       |
    | query, key, value, gate, up         | N(0, 1 / inputs): keeps the scale of what comes in               |
    | attention output, down              | N(0, 1 / (inputs 2 L)): 2 L residual outputs add up to scale one |
    | norm gains                          | 1                                                                |
    | linears of another factory          | their own `initialise`, with the same gain                       |
    """
    if model.embedding.is_meta:
        return
    model.embedding.normal_(0.0, model.config.width**-0.5, generator=generator)
    if model.shared is not None:
        model.shared.initialise(generator)
    for block in model.blocks:
        for _, linear in cast(Block, block).linears():
            linear.initialise(generator)
    if model.head is not None:
        model.head.normal_(0.0, model.config.width**-0.5, generator=generator)
    for module in model.modules():
        if isinstance(module, RMSNorm):
            module.weight.fill_(1.0)


def build(
    config: DenseConfig, vocab: int, *, compute_dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> LanguageModel:  # fmt: skip
    """The dense model of a config, ready to train."""
    return Transformer(config, vocab, compute_dtype=compute_dtype, generator=generator)
