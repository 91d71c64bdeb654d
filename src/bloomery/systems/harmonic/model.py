"""The harmonic transformer: the dense frame with a HarmonicLinear in every linear of its blocks."""

from __future__ import annotations

import torch

from bloomery.model.dense import Transformer
from bloomery.model.interface import LanguageModel
from bloomery.systems.harmonic import bases
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.layers import HarmonicLinear


def build(
    config: HarmonicConfig, vocab: int, *, compute_dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> LanguageModel:  # fmt: skip
    """The model of a config, ready to train; on the meta device under `with torch.device("meta")`."""

    def make(
        inputs: int, outputs: int, *, name: str, group: str, gain: float, compute_dtype: torch.dtype
    ) -> HarmonicLinear:
        return bases.make(
            config.basis, inputs, outputs, config.compression, gain, compute_dtype,
            omega=config.omega, blocks=config.blocks, atom_width=config.atom_width,
        )  # fmt: skip

    return Transformer(config.dense(), vocab, make_linear=make, compute_dtype=compute_dtype, generator=generator)
