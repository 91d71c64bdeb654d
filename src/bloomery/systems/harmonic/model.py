"""The harmonic transformer: the dense frame with a HarmonicLinear in every linear of its blocks."""

from __future__ import annotations

from functools import partial

import torch

from bloomery.model.dense import Transformer
from bloomery.model.interface import LanguageModel
from bloomery.model.layers import Linear, MixingFactory, Softmax
from bloomery.model.parts import BlockLinear
from bloomery.systems.harmonic import bases
from bloomery.systems.harmonic.attention import Overlap, TokenWidths, Unnormalised
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.decoded import DecodedLinear, SharedDecoder
from bloomery.systems.harmonic.layers import HarmonicLinear
from bloomery.systems.harmonic.linear_attention import LinearOverlap
from bloomery.systems.harmonic.meta import (
    LiteralMetaLinear,
    MetaHarmonicLinear,
    Mix,
    SharedLowRankLinear,
    SharedNumbers,
)


def build(
    config: HarmonicConfig, vocab: int, *, compute_dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> LanguageModel:  # fmt: skip
    """The model of a config, ready to train; on the meta device under `with torch.device("meta")`."""
    shared: SharedNumbers | SharedDecoder | None = None
    if config.level == 4:
        shared = SharedDecoder(config.meta_components or 0)
    elif config.level > 1 and config.form != "literal":
        kinds = [kind for kind, *_ in config.linear_shapes()]
        shared = SharedNumbers(config.widths(), config.meta_components or 0, kinds, config.depth_harmonics or 0)

    def make(
        inputs: int, outputs: int, *, name: str, group: str, gain: float, compute_dtype: torch.dtype
    ) -> BlockLinear:
        if not config.generates(name.rpartition(".")[2]):
            return Linear(inputs, outputs, name=name, group=group, gain=gain, compute_dtype=compute_dtype)
        if config.compression is None:
            return _meta(config, shared, inputs, outputs, name, gain, compute_dtype)
        return bases.make(
            config.basis, inputs, outputs, config.compression, gain, compute_dtype,
            omega=config.omega, blocks=config.blocks, atom_width=config.atom_width,
        )  # fmt: skip

    model = Transformer(
        config.dense(),
        vocab,
        make_linear=make,
        make_mixing=mixing(config),
        shared=shared,
        compute_dtype=compute_dtype,
        generator=generator,
    )
    if config.frozen:
        for module in model.modules():
            if isinstance(module, HarmonicLinear | SharedNumbers | SharedDecoder):
                module.requires_grad_(False)
    return model


def _meta(
    config: HarmonicConfig, shared: SharedNumbers | SharedDecoder | None, inputs: int, outputs: int, name: str,
    gain: float, compute_dtype: torch.dtype,
) -> HarmonicLinear:  # fmt: skip
    """A linear of level 2, 3 or 4. name: `blocks.3.attention.query`."""
    if shared is None:
        return LiteralMetaLinear(inputs, outputs, config.meta_components or 0, gain=gain, compute_dtype=compute_dtype)
    if isinstance(shared, SharedDecoder):
        return DecodedLinear(inputs, outputs, shared, gain=gain, compute_dtype=compute_dtype)
    _, layer, _, kind = name.split(".")
    mix = Mix(shared, kind, int(layer), config.layers)
    if config.form == "low_rank":
        return SharedLowRankLinear(inputs, outputs, mix, gain=gain, compute_dtype=compute_dtype)
    return MetaHarmonicLinear(inputs, outputs, mix, omega=config.omega, gain=gain, compute_dtype=compute_dtype)


def mixing(config: HarmonicConfig) -> MixingFactory:
    """How its queries read values."""
    match config.attention:
        case "softmax":
            return partial(Overlap, penalty=False, qk_norm=True) if config.qk_norm else Softmax
        case "overlap":
            return partial(Overlap, qk_norm=config.qk_norm)
        case "overlap_widths":
            return partial(TokenWidths, qk_norm=config.qk_norm)
        case "overlap_unnormalised":
            return partial(Unnormalised, qk_norm=config.qk_norm)
        case _:
            return partial(LinearOverlap, count=config.feature_count, qk_norm=config.qk_norm)
