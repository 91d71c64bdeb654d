"""harmonic/from_dense: a trained dense model whose linears are written in the numbers of a basis (spec 1.6, 2.3).

What the linears read is gathered from text that the model may learn from, each linear is fitted by itself
(from_dense.py), all else is taken over, and `convert/*` says how much of the matrices and of their outputs is lost.
With `recover` the whole model is then trained a little, as after harmonic/to_l2. The methods of the seed's table:

    SVD                        basis: lowrank, metric: entries
    activation-aware SVD       basis: lowrank                        (metric: inputs, the default)
    Kronecker SVD              basis: kron                           (looks at no covariance)
    matching pursuit (+ Adam)  basis: row_gauss                      (steps: 60)
    random start + Adam        basis: row_gauss, start: random, steps: 60
    no linears at all          start: zero

Refuses models that come in and are not dense, and compressions that leave a linear without a component.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from bloomery.engine.stage import Cost, StageContext, StageResult, Stopped
from bloomery.errors import PlanError
from bloomery.measure import Emitted
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Tokens
from bloomery.stages import training
from bloomery.stages.settings import Mixture, Training
from bloomery.systems.harmonic.config import Basis, HarmonicConfig
from bloomery.systems.harmonic.sizes import BLOCKS
from bloomery.systems.harmonic.to_level import Recover

if TYPE_CHECKING:
    from bloomery.model.interface import LanguageModel

SHARE = Emitted("share", "lower")
METRICS = {
    f"convert/{linear}{quantity}": SHARE
    for linear in ("", "*/")
    for quantity in ("unexplained_energy", "unexplained_output_energy")
}
FIT_KEYS = ("omega", "blocks", "atom_width")
MODEL_KEYS = ("basis", "compression", "where", *FIT_KEYS)


class Covariance(Frozen):
    """From what the inputs' covariances are estimated."""

    data: Mixture = Field(default_factory=lambda: {"corpus": 1.0})
    """A part, or `{part: share}`; shares add up to 1. Counts as learned from."""
    tokens: Tokens = 20_000
    """How many are read: whole batches, rounded down. Fewer than a linear has inputs leave directions unseen."""
    batch: int = Field(default=8, ge=1)
    """Sequences that pass at once, which bounds memory."""
    context: int = Field(default=128, ge=2)
    """Tokens in a sequence."""

    @model_validator(mode="after")
    def _is_a_batch_at_least(self) -> Covariance:
        self.training  # noqa: B018
        return self

    @property
    def training(self) -> Training:
        """The same as the settings of a reading, which know what is too little."""
        return Training(data=self.data, tokens=self.tokens, batch=self.batch, context=self.context)

    @property
    def reading(self) -> training.Reading:
        steps = self.training.steps
        return training.Reading(dict(self.data), self.batch, self.context, "stream", 0, steps)


class Settings(Frozen):
    basis: Basis = "lowrank"
    """How the linears are stored from now on."""
    compression: float = Field(ge=1.0)
    """How many times fewer numbers each linear stores, as in the `model` of pretrain."""
    metric: Literal["inputs", "entries"] = "inputs"
    """What a fit misses little of: outputs, over the inputs that were seen, or the matrix's own entries."""
    start: Literal["fit", "random", "zero"] = "fit"
    """random: components as they are drawn; zero: linears that do nothing. What a fit is measured against."""
    steps: int = Field(default=0, ge=0)
    """Of Adam on what is missed, from that start on; the best of all steps is kept."""
    rate: float = Field(default=0.03, gt=0)
    """Of that Adam, relative to each factor's natural scale."""
    covariance: Covariance = Covariance()
    """Below."""
    recover: Recover | None = None
    """As in harmonic/to_l2; without it nothing is trained."""
    omega: float = Field(default=3.0, gt=0.0)
    """As in `model`."""
    blocks: int = Field(default=BLOCKS, ge=1)
    """As in `model`."""
    atom_width: Literal["narrow", "wide"] = "narrow"
    """As in `model`: of a random start, and the unit of widths."""
    where: Literal["all", "attention", "feed_forward"] = "all"
    """As in `model`: which linears are converted."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of matrix products of what goes out. Fits are float64, and what comes in is read in float32."""

    @model_validator(mode="after")
    def _zero_stays_zero(self) -> Settings:
        if self.start == "zero" and self.steps:
            raise ValueError(f"start: zero is what linears are worth: {self.steps} steps of Adam would fit them")
        return self


class FromDense:
    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, Settings)
        if config.recover is None:
            return METRICS
        looks = config.recover.validation is not None
        return METRICS | {name: one for name, one in training.METRICS.items() if looks or not name.startswith("val/")}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        assert isinstance(config, Settings)
        return {"model": "model"} if config.recover is None else {"model": "model", "state": "state"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        recovery = () if config.recover is None else training.parts_read(config.recover.training(config.precision))
        return tuple(dict.fromkeys((*training.parts_read(config.covariance.training), *recovery)))

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        if config.recover is None or config.recover.validation is None:
            return ()
        return (config.recover.training(config.precision).validation_part,)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        shapes = [self._shape(before), self._shape(after)]
        return "" if shapes[0] == shapes[1] else f"another shape: {shapes[0]}, then {shapes[1]}"

    def _shape(self, config: BaseModel) -> str:
        assert isinstance(config, Settings)
        return f"{config.basis} of compression {config.compression:g} in {config.where}, at most {config.blocks} blocks"

    def after(self, config: Settings, before: Mapping[str, Any]) -> dict[str, Any]:
        """The `model` setting of what goes out. Raises PlanError where no such model is possible."""
        if before["system"] != "dense":
            raise PlanError("model", f"a model of the system {before['system']}", "a dense model, to be converted")
        kept = {key: value for key, value in before.items() if key != "system"}
        try:
            made = HarmonicConfig.model_validate({**kept, **{key: getattr(config, key) for key in MODEL_KEYS}})
        except ValidationError as error:
            said = error.errors()[0]
            where = ".".join(str(part) for part in said["loc"]) or "compression"
            raise PlanError(where, said["msg"].removeprefix("Value error, "), "a model that can be built") from None
        return {"system": "harmonic", **made.model_dump(mode="json")}

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        assert isinstance(config, Settings)
        recovery = None if config.recover is None else config.recover.training(config.precision)
        if model is None:
            trained = 0 if recovery is None else recovery.steps * recovery.batch * recovery.context
            return Cost(tokens=config.covariance.reading.tokens + trained)
        from bloomery.systems.harmonic.post_hoc_cost import conversion_cost, then

        cost = conversion_cost(config, model, self.after(config, model), vocab)
        if recovery is None:
            return cost
        from bloomery.stages.pricing import training_cost

        return then(cost, training_cost(recovery, self.after(config, model), vocab))

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        """Nothing to solve: what comes in is the dense model, and another method is the control."""
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        assert isinstance(config, Settings)
        reading = config.covariance.reading
        batches = training.batches(ctx, reading)
        yield from (batches.batch_at(step) for step in range(reading.steps))
        if config.recover is not None:
            yield from training.tokens_read(ctx, config.recover.training(config.precision))

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models

        assert isinstance(config, Settings)
        assert ctx.data is not None
        models.use_threads(ctx.threads)
        precision = ctx.precision if config.precision == "auto" else config.precision
        given, tokenizer = ctx.inputs["model"].path, Prepared.open(ctx.data).tokenizer
        models.check_tokenizer(given, tokenizer)
        after = self.after(config, models.settings_of(given))
        model, hashes = self._converted(ctx, config, after, precision), {}
        if config.recover is not None:
            hashes = self._recover(ctx, config, after, model)
        models.save(ctx.workdir / "model", model, after, precision, tokenizer)
        return StageResult(
            outputs={name: ctx.workdir / name for name in self.produces(config)},
            tallies={"model": model.tally()},
            hashes=hashes,
        )

    def _converted(
        self, ctx: StageContext, config: Settings, after: Mapping[str, Any], precision: str
    ) -> LanguageModel:  # fmt: skip
        from bloomery.stages import models
        from bloomery.systems.harmonic import post_hoc

        with training.memory_named(config.covariance.training, ctx.device, building=f"the model of the {ctx.who}"):
            source = models.load_model(ctx.inputs["model"].path, precision="fp32")
            model = models.build(after, ctx.vocab, precision=precision, seed=ctx.seed)
            conversion = post_hoc.Conversion(model, source, ctx.checkpoint / "linears" / _signature(ctx, config))
            done, count = conversion.begin(), len(conversion.linears())
            covariances = {} if len(done) == count else self._gather(ctx, config, source)
            fit = post_hoc.fitting(
                config.basis, config.compression, weighted=config.metric == "inputs", seed=ctx.seed, start=config.start,
                steps=config.steps, rate=config.rate, **{key: getattr(config, key) for key in FIT_KEYS},
            )  # fmt: skip
            found = conversion.go_on(done, covariances, fit, lambda number: _look_up(ctx, number, count))
        for name, value in post_hoc.named(found):
            ctx.measure(name, value, unit=SHARE.unit)
        return model

    def _gather(self, ctx: StageContext, config: Settings, source: LanguageModel) -> Mapping[str, Any]:
        from bloomery.systems.harmonic.covariances import gather

        reading = config.covariance.reading
        each = reading.batch * reading.context
        flops = source.tally().flops_per_token

        def after_step(step: int) -> None:
            ctx.spend(tokens=each, flops=each * flops)
            _look_up(ctx, step, reading.steps)

        source.to(ctx.device)
        batches = training.batches(ctx, reading)
        return gather(source, batches, reading.steps, device=ctx.device, after_step=after_step)

    def _recover(
        self, ctx: StageContext, config: Settings, after: Mapping[str, Any], model: LanguageModel
    ) -> dict[str, str]:  # fmt: skip
        from bloomery.stages.pricing import training_cost

        assert config.recover is not None
        settings = config.recover.training(config.precision)
        cost = training_cost(settings, after, ctx.vocab)
        looks = config.recover.validation is not None
        model = model.to(ctx.device).train()
        return training.train(ctx, settings, model, cost.flops / cost.tokens, looks=looks)


def _look_up(ctx: StageContext, done: int, of: int) -> None:
    """Between two pieces of work. Raises Stopped."""
    ctx.progress(step=done, steps=of)
    if ctx.should_stop():
        raise Stopped


def _signature(ctx: StageContext, config: Settings) -> str:
    """What decides how linears are fitted."""
    from bloomery.data.prepared import Prepared
    from bloomery.plan.canon import digest

    assert ctx.data is not None
    settings = config.model_dump(mode="json", exclude={"recover"})
    of = [settings, ctx.seed, Prepared.open(ctx.data).digest, ctx.inputs["model"].digest]
    return digest(of)[:16]
