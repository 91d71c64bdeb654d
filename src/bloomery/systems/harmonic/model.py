"""The harmonic transformer: the dense frame with a SineLinear in every linear of its blocks."""

from __future__ import annotations

import torch

from bloomery.model.dense import Transformer
from bloomery.model.interface import LanguageModel
from bloomery.systems.harmonic.config import HarmonicConfig, rank
from bloomery.systems.harmonic.layers import SineLinear


def build(
    config: HarmonicConfig, vocab: int, *, compute_dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> LanguageModel:  # fmt: skip
    """The model of a config, ready to train; on the meta device under `with torch.device("meta")`."""

    def make(
        inputs: int, outputs: int, *, name: str, group: str, gain: float, compute_dtype: torch.dtype
    ) -> SineLinear:
        components = rank(inputs, outputs, config.compression)
        return SineLinear(inputs, outputs, rank=components, omega=config.omega, gain=gain, compute_dtype=compute_dtype)

    return Transformer(config.dense(), vocab, make_linear=make, compute_dtype=compute_dtype, generator=generator)
