"""blend_check: tuning begins by asking whether the embeddings that come in agree with the corpus, and blends where not.

`init: {kind: blend_check}` of finetune (seed 3.3: "70/30 blend if cosine < 0.5"). K0 is derived from the tokens that
the stage is going to read, turned into the model's own basis (procrustes.py), and every row whose cosine with it is
below `below_cosine` is blended, as harmonic/k0_blend does it; a share of 0 checks and changes nothing. While the model
trains,

    blend/checked_cosine     mean over tokens, before the blend
    blend/WHERE/blended      share of the rows that were blended
    blend/cosine             mean over tokens of an embedding row now and its derivation: whether training goes to it

Refuses models outside the dense frame and vocabularies above bigram.LARGEST_VOCAB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from bloomery.engine.stage import Begun
from bloomery.measure import Emitted
from bloomery.plan.units import Share
from bloomery.stages.settings import Init
from bloomery.systems.harmonic.k0 import K0, K0Settings


class BlendSettings(Init):
    share: Share = 0.3
    """Of K0 in a row that is blended."""
    below_cosine: float = Field(default=0.5, ge=-1, le=1)
    """Rows whose cosine with K0's is lower are blended; the others stay as they are."""
    where: tuple[Literal["embeddings", "head"], ...] = Field(default=("embeddings", "head"), min_length=1)
    iterations: int = Field(default=60, ge=0)
    """Of Adam, in the fit to the bigram table."""


class BlendCheck:
    of_trained = True

    def config_model(self) -> type[BlendSettings]:
        return BlendSettings

    def emits(self, config: Init) -> Mapping[str, Emitted]:
        assert isinstance(config, BlendSettings)
        blended = {f"blend/{place}/blended": Emitted("share") for place in config.where}
        return {"blend/checked_cosine": Emitted(), "blend/cosine": Emitted(), **blended}

    def flops(self, config: Init, *, vocab: int, width: int) -> float:
        assert isinstance(config, BlendSettings)
        counted = K0Settings(kind="k0", iterations=max(1, config.iterations))
        return K0().flops(counted, vocab=vocab, width=width)

    def begin(self, config: Init, model: Any, tokens: Iterator[Any], *, seed: int, end: int) -> Begun:
        import torch

        from bloomery.stages.baselines import distinct
        from bloomery.systems.harmonic import bigram, k0_blend, k0_init, procrustes

        assert isinstance(config, BlendSettings)
        frame = k0_init.frame_of(model)
        table, _ = bigram.count(distinct(tokens), vocab=frame.vocab, end=end)
        found = k0_init.solve(frame, table, method="normaware", iterations=config.iterations, seed=seed, tied=False)
        trained = frame.embedding.detach().cpu().double()
        derived = found.embedding.double()
        derived = derived @ procrustes.rotation(derived, trained)
        asked = k0_blend.Settings(share=config.share, below_cosine=config.below_cosine, where=config.where)
        told = k0_blend.blend_into(frame, found, asked)
        told["blend/checked_cosine"] = told.pop("blend/cosine")
        kept = {name: torch.tensor(told[name], dtype=torch.float64) for name in self.emits(config) if name in told}
        return Begun({"derived": derived.float(), **kept})

    def look(self, config: Init, model: Any, remembered: Mapping[str, Any]) -> Mapping[str, float]:
        from bloomery.systems.harmonic import k0_init

        if "derived" not in remembered:
            return {}
        told = {name: float(remembered[name]) for name in self.emits(config) if name in remembered}
        frame = k0_init.frame_of(model)
        return {**told, "blend/cosine": k0_init.mean_cosine(frame.embedding, remembered["derived"])}
