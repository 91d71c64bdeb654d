"""pretrain: a new model of any system, trained on a mixture of token files.

Outputs `model` (weights) and `state` (weights, optimiser, step: what `from: checkpoint` goes on from).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.measure import Emitted
from bloomery.stages import starting, training
from bloomery.stages.settings import Init, InitSettings, ModelSettings, Training, architecture, misfit, other_optimizer


class Settings(Training):
    model: ModelSettings
    init: InitSettings = Init()
    """How its weights begin."""


class Pretrain:
    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, Settings)
        return {**training.METRICS, **starting.metrics(config.init, config.steps)}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model", "state": "state"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return training.parts_read(config)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        assert isinstance(before, Settings)
        assert isinstance(after, Settings)
        return misfit(before.model, after.model) or other_optimizer(before, after)

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return (config.validation_part,)

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        from bloomery.stages.pricing import training_cost

        assert isinstance(config, Settings)
        cost = training_cost(config, config.model, vocab)
        return replace(cost, flops=cost.flops + starting.flops(config.init, vocab=vocab, width=config.model["width"]))

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        from bloomery.model.config import DenseConfig
        from bloomery.model.twin import solve

        assert isinstance(config, Settings)
        shared = {key: value for key, value in config.model.items() if key in DenseConfig.model_fields}
        twin = solve(
            architecture(config.model).tally(vocab),
            DenseConfig.model_validate(shared),
            vocab,
            match=match,
            tolerance=tolerance,
            context=config.context,
        )
        return {"model": {"system": "dense", **twin.model_dump(mode="json")}}

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        assert isinstance(config, Settings)
        return training.tokens_read(ctx, config, config.init.tokens)

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models
        from bloomery.stages.pricing import training_cost

        assert isinstance(config, Settings)
        assert ctx.data is not None
        models.use_threads(ctx.threads)
        precision = ctx.precision if config.precision == "auto" else config.precision
        with training.memory_named(config, ctx.device, building=f"the model of the {ctx.who}"):
            model = models.build(config.model, ctx.vocab, precision=precision, seed=ctx.seed).to(ctx.device)
        start = starting.begin(ctx, config, config.init, model)
        cost = training_cost(config, config.model, ctx.vocab)
        hashes = training.train(ctx, config, model, cost.flops / cost.tokens, start=start)
        tokenizer = Prepared.open(ctx.data).tokenizer
        models.save(ctx.workdir / "model", model, config.model, precision, tokenizer)
        return StageResult(
            outputs={"model": ctx.workdir / "model", "state": ctx.workdir / "state"},
            tallies={"model": model.tally()},
            hashes=hashes,
        )
