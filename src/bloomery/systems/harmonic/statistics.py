"""statistics: a model begins as K0's bigram model with layers set from counts too (`init: {kind: statistics}`).

No gradient is taken: corpus_layers.py says what each layer does and how it is solved for. The last tenth of the rows
is counted by nothing and chooses how much of each layer is used. `init/rival_loss` is that of the bigram table of all
rows, so that `init/excess_loss` below zero says that the layers are worth more than no layers. Works on dense linears
and softmax attention; refuses others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field

from bloomery.engine.stage import Begun
from bloomery.measure import Emitted
from bloomery.plan.units import Tokens
from bloomery.stages.settings import Init
from bloomery.systems.harmonic.k0 import K0, K0Settings


class StatisticsSettings(Init):
    layers: int = Field(default=2, ge=1)
    """How many are set, from the first; others add nothing at first, as in k0. The o-th looks o places back."""
    read: Tokens = 200_000
    """That layers are counted on, at most; embedding and head see all."""
    iterations: int = Field(default=60, ge=1)
    """As in k0."""


class Statistics:
    of_trained = False

    def config_model(self) -> type[BaseModel]:
        return StatisticsSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return K0().emits(_k0(config))

    def flops(self, config: BaseModel, *, vocab: int, width: int) -> float:
        """Of k0, and of passes through a model of as many layers as are set: 12 width^2 each, and the head."""
        from bloomery.systems.harmonic.corpus_layers import PASSES

        assert isinstance(config, StatisticsSettings)
        per_token = 2.0 * (vocab * width + 12 * config.layers * width**2)
        return K0().flops(_k0(config), vocab=vocab, width=width) + PASSES * config.layers * config.read * per_token

    def begin(self, config: BaseModel, model: Any, tokens: Iterator[Any], *, seed: int, end: int) -> Begun:
        from bloomery.stages.baselines import distinct
        from bloomery.systems.harmonic import bigram, corpus_layers, k0_init

        assert isinstance(config, StatisticsSettings)
        frame = k0_init.frame_of(model)
        corpus_layers.check(frame)
        rows = corpus_layers.joined(distinct(tokens))
        counted, reserved = corpus_layers.split(rows)
        begun = K0().begin(_k0(config), frame, iter([counted]), seed=seed, end=end)
        most = max(1, config.read // rows.tokens.shape[1])
        some = corpus_layers.part(counted, slice(-most, None)), corpus_layers.part(reserved, slice(-most, None))
        corpus_layers.set_layers(frame, *some, layers=config.layers)
        _, rival = bigram.count([rows], vocab=frame.vocab, end=end)
        return Begun(begun.remembered, rival)

    def look(self, config: BaseModel, model: Any, remembered: Mapping[str, Any]) -> Mapping[str, float]:
        return K0().look(_k0(config), model, remembered)


def _k0(config: BaseModel) -> K0Settings:
    assert isinstance(config, StatisticsSettings)
    return K0Settings(kind="k0", iterations=config.iterations)
