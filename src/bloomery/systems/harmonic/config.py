"""The shape of a harmonic transformer, and what it weighs in closed form. No torch here.

Every linear of the blocks is generated from as many components of its basis as fit into the dense count divided by
`compression` (sizes.py). Embeddings, norms and head stay dense, so the whole model shrinks by less than its linears.
Refuses a compression that leaves some linear without a single component, and a setting that nothing would read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from bloomery.measure import Group, Tally
from bloomery.model.config import DenseConfig, total
from bloomery.systems.harmonic.levels import linear_group, shared_group
from bloomery.systems.harmonic.sizes import BLOCKS, FORMS, OPTIONS, largest_compression, size

Basis = Literal["sine", "monarch", "lowrank", "kron", "hashed", "row_gauss", "row_scale_space", "row_gabor", "row_cos"]
OPTION_KEYS = {
    "omega": "the basis sine, and shared_coordinates at levels 2 and 3",
    "blocks": "the basis monarch",
    "atom_width": "the bases row_gauss and row_gabor",
    "form": "levels 2 and 3",
}
"""Keys that not every way of storing reads, and which do; `sizes.OPTIONS` says so of the bases."""
CHUNK = 128
"""Tokens among which overlap_linear looks at pairs; sums are carried from one chunk to the next."""
FEED_FORWARD = ("gate", "up", "down")
"""Linears of a block; the others are of attention."""


class HarmonicConfig(DenseConfig):
    """A dense shape, and how its linears are stored."""

    basis: Basis = "sine"
    """How a linear's matrix is generated; README.md has the formulas."""
    compression: float | None = Field(default=None, ge=1.0)
    """Of level 1: how many times fewer numbers each linear stores than its matrix has; at least this, components being
    whole."""
    level: Literal[1, 2, 3, 4] = 1
    """1: every linear has components of its own. 2: components are generated too. 3: and what generates them, over
    depth. 4: matrices are decoded from latents by one decoder. levels.py has the formulas; a level is worth trying
    where the one below beat a frozen random model."""
    form: Literal["shared_coordinates", "low_rank", "literal"] = "shared_coordinates"
    """Of levels 2 and 3: neurons' coordinates that all linears share; those without the sine; or the seed's literal
    form, Gaussians whose fields are Gaussians (level 2 alone)."""
    meta_components: int | None = Field(default=None, ge=1)
    """Of levels 2 and 3: coordinates of a neuron, or meta-Gaussians of a field. Of level 4: numbers of a latent."""
    depth_harmonics: int | None = Field(default=None, ge=1)
    """Of level 3: at most as many as layers; with as many it can represent all that level 2 can."""
    omega: float = Field(default=3.0, gt=0.0)
    """Of `sine`, and of shared coordinates: the frequency. Measured for `sine`: 1 behaves like a low-rank matrix, 10 is
    too wiggly to learn, 3 is best."""
    blocks: int = Field(default=BLOCKS, ge=1)
    """Of `monarch`: at most so many, the largest number that divides both sides of a linear."""
    atom_width: Literal["narrow", "wide"] = "narrow"
    """Of `row_gauss` and `row_gabor`, at the start: 0.7 of an index step, or, as the documented failure, half the K-th
    part of a row."""
    where: Literal["all", "attention", "feed_forward"] = "all"
    """Of level 1: which linears are generated; the others are stored as they are."""
    frozen: bool = False
    """Linears stay as they were drawn, and embedding, norms and head learn around them. The control below
    which a model has learned nothing in its linears (measured: 2.38 nats per byte where dense ends at 1.87)."""

    attention: Literal["softmax", "overlap", "overlap_widths", "overlap_unnormalised", "overlap_linear"] = "softmax"
    """By what queries read values: dot products, or the overlap of Gaussians; overlap_linear costs O(tokens)."""
    qk_norm: bool = False
    """Queries and keys of one length: then softmax and overlap are both cosine attention."""
    attention_features: int | None = Field(default=None, ge=1)
    """Random features of overlap_linear for a head; None: twice the head's width."""

    @model_validator(mode="after")
    def _sums_have_no_window(self) -> Self:
        if self.attention == "overlap_linear" and self.attention_window is not None:
            raise ValueError("attention overlap_linear keeps sums over all tokens: no attention_window")
        if self.attention != "overlap_linear" and self.attention_features is not None:
            raise ValueError(f"attention_features are those of overlap_linear, not of {self.attention}")
        return self

    @model_validator(mode="after")
    def _a_level_has_its_own_keys(self) -> Self:
        wanted = {"compression": self.level == 1, "meta_components": self.level > 1, "depth_harmonics": self.level == 3}
        for key, needed in wanted.items():
            if (getattr(self, key) is not None) is not needed:
                raise ValueError(f"level {self.level} {'needs' if needed else 'has no'} {key}")
        if self.where != "all" and (self.level > 1 or self.frozen):
            raise ValueError(
                f"where: {self.where} is of level 1 and trained: no hybrid at level {self.level}, or frozen"
            )
        if self.level > 1 and self.basis != "sine":
            raise ValueError(f"level {self.level} has a form, not the basis {self.basis}")
        if self.level == 3 and self.form == "literal":
            raise ValueError("the literal form ends at level 2")
        if self.level == 4 and self.form != "shared_coordinates":
            raise ValueError(f"level 4 has one form: no {self.form}")
        if (self.depth_harmonics or 0) > self.layers:
            raise ValueError(f"depth_harmonics {self.depth_harmonics} for {self.layers} layers: at most as many")
        return self

    @model_validator(mode="after")
    def _no_setting_is_ignored(self) -> Self:
        for key in (each for each in OPTION_KEYS if each not in self.hears()):
            if getattr(self, key) != type(self).model_fields[key].default:
                here = f"basis {self.basis}" if self.level == 1 else f"level {self.level} in form {self.form}"
                raise ValueError(
                    f"{key}: {getattr(self, key)} says nothing to {here}; {key} is for {OPTION_KEYS[key]}: leave it out"
                )
        return self

    def hears(self) -> tuple[str, ...]:
        """Of omega, blocks, atom_width and form those that say something here."""
        if self.level == 1:
            return OPTIONS.get(self.basis, ())
        shared = self.level < 4 and self.form == "shared_coordinates"
        return ("form", "omega") if shared else ("form",)

    @model_validator(mode="after")
    def _every_linear_has_a_component(self) -> Self:
        if self.compression is None:
            return self
        for name, inputs, outputs in self.linear_shapes():
            if self.generates(name) and size(self.basis, inputs, outputs, self.compression).components < 1:
                most = largest_compression(self.basis, inputs, outputs)
                raise ValueError(
                    f"compression {self.compression:g} leaves {name} ({inputs} -> {outputs}) without a component;"
                    f" at most {math.floor(most * 10) / 10:g} at this width"
                )
        return self

    def linear_shapes(self) -> Iterator[tuple[str, int, int]]:
        """Name, inputs and outputs of the linears of one block."""
        yield "query", self.width, self.width
        yield "key", self.width, self.kv_width
        yield "value", self.width, self.kv_width
        yield "output", self.width, self.width
        yield "gate", self.width, self.feed_forward_width
        yield "up", self.width, self.feed_forward_width
        yield "down", self.feed_forward_width, self.width

    def generates(self, name: str) -> bool:
        """Whether this linear of a block is generated."""
        return self.where == "all" or (self.where == "feed_forward") == (name in FEED_FORWARD)

    def made_in_a_pass(self) -> tuple[int, int]:
        """Of the linears that are generated as matrices; those applied factor by factor never are (layers.py)."""
        if self.form == "low_rank" or (self.level == 1 and FORMS[self.basis](self.width, self.width).factorised):
            return 0, 0
        numbers = [inputs * outputs for name, inputs, outputs in self.linear_shapes() if self.generates(name)]
        return self.layers * sum(numbers), max(numbers)

    def dense(self) -> DenseConfig:
        """The same shape with its matrices stored."""
        return DenseConfig.model_validate(self.model_dump(include=set(DenseConfig.model_fields)))

    def tally(self, vocab: int) -> Tally:
        """Operations per token are those of the dense shape where a matrix is generated and multiplied as one. What
        generating it costs falls due per pass, not per token: `model.tally.Flops.per_pass`."""
        dense = self.dense().tally(vocab)
        linears: dict[str, list[Group]] = {"attention": [], "feed_forward": []}
        for name, inputs, outputs in self.linear_shapes():
            numbers = inputs * outputs
            stored = Group(numbers, numbers, flops_per_token=2.0 * numbers)
            group = self._linear(inputs, outputs) if self.generates(name) else stored
            linears["feed_forward" if name in FEED_FORWARD else "attention"] += [group] * self.layers
        linears["attention"].append(self._mixing())
        if self.level > 1 and self.form != "literal":
            linears["shared"] = [self._shared()]
        tally = Tally({**dense.groups, **total(linears)})
        return tally if tally.stored == dense.stored else Tally(tally.groups, dense.stored)

    def _linear(self, inputs: int, outputs: int) -> Group:
        if self.compression is None:
            return self._held(linear_group(self.level, self.form, self.meta_components or 0, inputs, outputs))
        one = size(self.basis, inputs, outputs, self.compression)
        return self._held(Group(one.stored, one.stored, flops_per_token=one.flops_per_token))

    def _held(self, linears: Group) -> Group:
        return replace(linears, frozen=linears.stored) if self.frozen else linears

    def _shared(self) -> Group:
        kinds, components = len(list(self.linear_shapes())), self.meta_components or 0
        harmonics = self.depth_harmonics or 0
        return self._held(shared_group(self.level, self.form, components, self.widths(), kinds, harmonics))

    def widths(self) -> set[int]:
        """Numbers of features that some linear reads or writes."""
        return {side for _, inputs, outputs in self.linear_shapes() for side in (inputs, outputs)}

    @property
    def feature_count(self) -> int:
        """Of overlap_linear, for a head."""
        return self.attention_features or 2 * self.head_width

    def _mixing(self) -> Group:
        """What attention holds beside its projections, and its operations for each token."""
        if self.attention == "overlap_widths":
            numbers = self.layers * self.width * (self.heads + self.kv_head_count)
            return Group(numbers, numbers, flops_per_token=2.0 * numbers)
        if self.attention == "overlap_linear":
            buffers = self.layers * self.feature_count * self.head_width
            return Group(0, 0, buffers=buffers, flops_per_token=2.0 * buffers * (self.heads + self.kv_head_count))
        return Group(0, 0)

    def attention_flops_per_token(self, context: int) -> float:
        """Scores and weighted values, counted without causality; of overlap_linear within chunks, and through sums."""
        if self.attention != "overlap_linear":
            plain = super().attention_flops_per_token(context)
            return plain * (1.0 + 0.5 / self.head_width) if self.attention == "overlap" else plain
        features, head = self.feature_count, self.head_width
        within = 2.0 * self.heads * (features + head) * min(context, CHUNK)
        beyond = 2.0 * features * (self.heads + self.kv_head_count) * head if context > CHUNK else 0.0
        return self.layers * (within + beyond)
