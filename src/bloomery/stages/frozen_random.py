"""The baseline frozen_random: the judged model with its linears left as drawn, trained on exactly its tokens.

Embedding, norms and head learn around random linears (a reservoir). A model whose linears learn no more than that has
learned nothing in them. It is built and trained by the settings of the stage that built the judged model, the same seed
included, from a plain start whatever its `init`, and takes about as long as that stage. Refuses models whose system
does not know `frozen: true`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bloomery.engine.stage import Cost, StageContext, StageResult, Stopped
from bloomery.errors import PlanError
from bloomery.plan.schema import Frozen
from bloomery.stages.settings import Training, architecture

if TYPE_CHECKING:
    from bloomery.data.mix import Batch

WHERE = "baselines: kind frozen_random"


class FrozenRandomSettings(Frozen):
    """None of its own."""


class FrozenRandom:
    packable = True

    def config_model(self) -> type[BaseModel]:
        return FrozenRandomSettings

    def cost(self, config: BaseModel, *, tokens: int, built: Cost, vocab: int) -> Cost:
        """As much as the stage that built the judged model, over all that was read: gradients flow through what is
        frozen."""
        share = tokens / built.tokens if built.tokens else 1.0
        return replace(built, tokens=tokens, flops=built.flops * share)

    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models, training
        from bloomery.stages.pricing import training_cost
        from bloomery.train.loop import fit

        settings, model = ctx.judged, getattr(ctx.judged, "model", None)
        if not isinstance(settings, Training) or not model:
            raise PlanError(WHERE, "no stage of this plan built the judged model", "a stage that builds and trains it")
        if "frozen" not in type(architecture(model)).model_fields:
            raise PlanError(WHERE, f"a {model['system']} model, whose linears cannot be frozen",
                            "a system whose models know `frozen`")  # fmt: skip
        assert ctx.data is not None
        models.use_threads(ctx.threads)
        precision = ctx.precision if settings.precision == "auto" else settings.precision
        held = {**model, "frozen": True}
        network = models.build(held, ctx.vocab, precision=precision, seed=ctx.seed).to(ctx.device)
        cost = training_cost(settings, held, ctx.vocab)
        batches = Read(list(tokens))
        plan = training.fit_config(ctx, settings.model_copy(update={"tokens": batches.tokens(settings)}))
        result = fit(
            network, batches, plan, checkpoint=ctx.checkpoint, device=ctx.device, on_progress=ctx.progress,
            should_stop=ctx.should_stop, signature={"settings": settings.model_dump(mode="json"), "seed": ctx.seed},
            allow_changed=ctx.allow_changed,
            on_step=lambda tokens: ctx.spend(tokens=tokens, flops=tokens * cost.flops / cost.tokens),
        )  # fmt: skip
        if result.stopped:
            raise Stopped
        models.save(ctx.workdir / "model", network, held, precision, Prepared.open(ctx.data).tokenizer)
        return StageResult(outputs={"model": ctx.workdir / "model"}, tallies={"model": network.tally()})


class Read:
    """Batches that were read before, in their order."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches

    def batch_at(self, step: int) -> Batch:
        return self.batches[step]

    def tokens(self, settings: Training) -> int:
        """As many steps of these settings' size as there are batches."""
        return len(self.batches) * settings.batch * settings.context
