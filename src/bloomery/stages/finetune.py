"""finetune: goes on training a model that comes in, on its own data and schedule, by category where there are any.

Inputs `model` (weights), and `state` (its optimiser's moments too, and what it has read) where training is to go on as
if it had not stopped. The architecture is the model's own. Rates are relative to the scale of each tensor as its system
would initialise it. Outputs as pretrain's.

Further inputs are examples that stages made (artifacts `data`), under the names that `data` mixes them by. Of prompts
and responses only responses are learned from. What `freeze` names comes out bit for bit as it came in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.measure import Emitted
from bloomery.stages import starting, training, tuning
from bloomery.stages.finetune_settings import Settings
from bloomery.stages.settings import other_optimizer

if TYPE_CHECKING:
    from bloomery.model.interface import LanguageModel

__all__ = ["Finetune", "Settings"]


class Finetune:
    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, Settings)
        return {**training.METRICS, **tuning.METRICS, **starting.metrics(config.init, config.steps)}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model", "state": "state"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        assert isinstance(config, Settings)
        made = {part: False for part in config.data if ":" not in part}
        return {**made, "model": True, "state": False}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return training.parts_read(config)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        assert isinstance(before, Settings)
        assert isinstance(after, Settings)
        if before.freeze != after.freeze:
            return f"other parameters are frozen: {list(before.freeze)}, then {list(after.freeze)}"
        return other_optimizer(before, after)

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return (config.validation_part,)

    def examine(self, config: BaseModel, data: Path) -> None:
        """Of a mixture without made examples, whether it is balanced."""
        from bloomery.data.prepared import Prepared
        from bloomery.stages.material import Material

        assert isinstance(config, Settings)
        sets = Prepared.open(data).sets()
        if config.balance is not None and all(part.partition(":")[0] in sets for part in config.data):
            tuning.check_balance(Material(data, {}, config.data, config.formats.model_dump()), config.balance)

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        from bloomery.stages.pricing import training_cost

        assert isinstance(config, Settings)
        if model is None:
            return Cost(tokens=config.steps * config.batch * config.context)
        cost = training_cost(config, model, vocab)
        return replace(cost, flops=cost.flops + starting.flops(config.init, vocab=vocab, width=model["width"]))

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        """Nothing to solve: the twin's own model comes in."""
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        assert isinstance(config, Settings)
        return training.tokens_read(ctx, config, config.init.tokens)

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.model.tally import with_frozen
        from bloomery.stages import models
        from bloomery.stages.pricing import training_cost

        assert isinstance(config, Settings)
        assert ctx.data is not None
        models.use_threads(ctx.threads)
        precision = ctx.precision if config.precision == "auto" else config.precision
        given = ctx.inputs["model"].path
        tokenizer = Prepared.open(ctx.data).tokenizer
        models.check_tokenizer(given, tokenizer)
        settings = models.settings_of(given)
        with training.memory_named(config, ctx.device):
            model = models.load_model(given, device=ctx.device, precision=precision).train()
        cost = training_cost(config, settings, ctx.vocab)
        begun = tuning.Tuning(ctx, config)
        start = starting.begin(ctx, config, config.init, model)
        freeze(model, config.freeze)
        hashes = training.train(ctx, config, model, cost.flops / cost.tokens, start=start, tuning=begun)
        models.save(ctx.workdir / "model", model, settings, precision, tokenizer)
        return StageResult(
            outputs={"model": ctx.workdir / "model", "state": ctx.workdir / "state"},
            tallies={"model": with_frozen(model, model.tally())},
            hashes=hashes,
        )


def freeze(model: LanguageModel, named: Sequence[str]) -> None:
    """Leave these groups or patterns of parameters untrained. Raises TrainingError for one that is neither."""
    from bloomery.model.select import frozen

    if named:
        parameters = dict(model.named_parameters())
        for name in frozen({name: scale.group for name, scale in model.scales().items()}, named):
            parameters[name].requires_grad_(False)
