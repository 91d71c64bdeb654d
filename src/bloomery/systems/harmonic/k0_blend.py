"""harmonic/k0_blend: mixes corpus-derived embeddings into a trained model, where the two disagree.

K0 is derived from the data as for `init: {kind: k0}`, turned into the model's own basis by the one rotation that brings
its embedding closest to the trained one (procrustes), and blended in. Embedding rows are taken at the length of the
trained ones, since the norm ignores it; head rows as they are, the last norm's gains counted as part of the head. Where
one matrix is both, it is blended as the embedding: the head of K0 is another matrix.

`align: none` leaves the rotation out, and is there to be measured against: it says so in the run's notes.
Refuses models outside the dense frame and vocabularies above bigram.LARGEST_VOCAB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.measure import Emitted
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Share, Tokens
from bloomery.stages import training
from bloomery.stages.settings import Mixture
from bloomery.systems.harmonic.k0 import K0, K0Settings

if TYPE_CHECKING:
    from bloomery.model.dense import Transformer
    from bloomery.systems.harmonic.bigram import Factors

ROWS, CONTEXT = 64, 256
"""How the data is read; what is counted does not depend on it but at the edges of rows."""


class Settings(Frozen):
    share: Share = 0.3
    """Of K0 in a row that is blended."""
    below_cosine: float = Field(default=0.5, ge=-1, le=1)
    """Rows whose cosine with K0's is lower are blended; the others stay as they are."""
    align: Literal["procrustes", "none"] = "procrustes"
    """none: in K0's own basis, in which almost every cosine is near zero whatever the model has learned."""
    where: tuple[Literal["embeddings", "head"], ...] = Field(default=("embeddings", "head"), min_length=1)
    data: Mixture = Field(default_factory=lambda: {"corpus": 1.0})
    """What is counted: a part, or `{part: share}`."""
    tokens: Tokens = 2_000_000
    """How many of them; read again they count once."""
    iterations: int = Field(default=60, ge=0)
    """Of Adam, in the fit to the bigram table."""


class K0Blend:
    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        """Means over tokens, before the blend: aligned, and as K0 stands; and the share of rows that were blended."""
        assert isinstance(config, Settings)
        blended = {f"blend/{place}/blended": Emitted("share") for place in config.where}
        return {"blend/cosine": Emitted(), "blend/unaligned_cosine": Emitted(), **blended}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return tuple(part if ":" in part else f"{part}:train" for part in config.data)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return "it keeps no state: it trains nothing"

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        assert isinstance(config, Settings)
        if model is None:
            return Cost(tokens=config.tokens)
        counted = K0Settings(kind="k0", iterations=max(1, config.iterations))
        return Cost(tokens=config.tokens, flops=K0().flops(counted, vocab=vocab, width=model["width"]))

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        assert isinstance(config, Settings)
        steps = max(1, config.tokens // (ROWS * CONTEXT))
        reader = training.batches(ctx, training.Reading(config.data, ROWS, CONTEXT, "stream", 0, steps))
        return (reader.batch_at(step) for step in range(steps))

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models
        from bloomery.stages.baselines import distinct
        from bloomery.systems.harmonic import bigram, k0_init
        from bloomery.train.state import hash_weights

        assert isinstance(config, Settings)
        assert ctx.data is not None
        models.use_threads(ctx.threads)
        given, tokenizer = ctx.inputs["model"].path, Prepared.open(ctx.data).tokenizer
        models.check_tokenizer(given, tokenizer)
        model = models.load_model(given)
        frame = k0_init.frame_of(model)
        read = distinct(self.tokens_read(ctx, config))
        table, _ = bigram.count(read, vocab=frame.vocab, end=tokenizer.end_of_document)
        factors = k0_init.solve(
            frame, table, method="normaware", iterations=config.iterations, seed=ctx.seed, tied=False
        )
        for name, value in blend_into(frame, factors, config).items():
            ctx.measure(name, value)
        if config.align == "none":
            ctx.note("note", text="blended without alignment: a cosine of two bases says nothing about the model")
        models.save(ctx.workdir / "model", model, models.settings_of(given), models.card(given)["precision"], tokenizer)
        return StageResult(
            outputs={"model": ctx.workdir / "model"},
            tallies={"model": model.tally()},
            hashes={"weights": hash_weights(model)},
        )


def blend_into(model: Transformer, factors: Factors, config: Settings) -> dict[str, float]:
    """Blends embedding and head of `model` in place; what the stage measures. factors: untied ones."""
    import torch

    from bloomery.systems.harmonic import procrustes

    assert factors.head is not None
    blend = partial(procrustes.blend, share=config.share, below=config.below_cosine)
    with torch.no_grad():
        trained, head = model.embedding.double(), model.head
        derived, derived_head = factors.embedding.double(), factors.head.double()
        measured = {"blend/unaligned_cosine": float(procrustes.cosines(trained, derived).mean())}
        if config.align == "procrustes":
            turn = procrustes.rotation(derived, trained)
            derived, derived_head = derived @ turn, derived_head @ turn
        measured["blend/cosine"] = float(procrustes.cosines(trained, derived).mean())
        if "embeddings" in config.where or head is None:
            derived *= trained.norm(dim=1, keepdim=True) / derived.norm(dim=1, keepdim=True)
            mixed, chosen = blend(trained, derived)
            model.embedding.copy_(mixed)
            measured |= {f"blend/{place}/blended": float(chosen.double().mean()) for place in config.where}
        if "head" in config.where and head is not None:
            # As the norm's output before its gains sees it. A feature that they switch off has no head to speak of.
            gains = model.norm.weight.double()
            mixed, chosen = blend(head.double() * gains, derived_head)
            changed = chosen[:, None] & (gains.abs() > 1e-6)
            head.copy_(torch.where(changed, mixed / gains, head.double()))
            measured["blend/head/blended"] = float(chosen.double().mean())
    return measured
