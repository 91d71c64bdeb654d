"""harmonic/to_l2 and harmonic/to_l3: a trained model written in the numbers of the next level, then trained a little.

What is no linear of a block is taken over; linears are fitted by converting.from_harmonic (`convert/unexplained_energy`
says how much of them was lost) and the whole model recovers in the one training loop, as in finetune. The model that
comes in is dense or harmonic. Its control of the same size is the same stage with `control: {set: {form: low_rank}}`.

`linears: frozen_random` is what a level has to beat (spec 4.2): the same stage, but its linears are left as they were
drawn and never trained. As an arm, compared with `relative_to: arm:frozen`, it says whether the level learned anything;
levels that do not beat it stop.

Refuses the literal form, which is measured to keep nothing of a trained model, and for level 3 a model that is not of
level 2, whose form it keeps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.errors import PlanError
from bloomery.measure import Emitted
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Seconds, Tokens
from bloomery.stages import training
from bloomery.stages.settings import Mixture, Optimizer, Schedule, Training, Validation
from bloomery.systems.harmonic.config import HarmonicConfig

LEVEL_1 = ("basis", "compression", "blocks", "atom_width", "frozen")
"""Keys of a model's setting that the levels above have no use for."""
META_COMPONENTS = 8


class Recover(Frozen):
    """How the converted model is trained: AdamW, all else as in finetune."""

    data: Mixture = Field(default_factory=lambda: {"corpus": 1.0})
    """A part, or `{part: share}`; shares add up to 1."""
    tokens: Tokens
    """How many are read: whole steps of batch x context, rounded down."""
    lr: float = Field(gt=0)
    """The highest rate, relative to each tensor's scale at initialisation."""
    batch: int = Field(default=8, ge=1)
    """Sequences per optimiser step."""
    context: int = Field(default=128, ge=2)
    """Tokens in a sequence."""
    packing: Literal["stream", "documents"] = "stream"
    """As in finetune."""
    schedule: Schedule = Schedule()
    """As in finetune."""
    validation: Validation | None = None
    """As in finetune; without it nothing is looked at on the way, and suites alone judge."""
    checkpoint_every: Seconds = 20
    """As in finetune."""

    @model_validator(mode="after")
    def _is_a_step_at_least(self) -> Recover:
        self.training("fp32")
        return self

    def training(self, precision: Literal["auto", "bf16", "fp32"]) -> Training:
        """What the training loop is told."""
        return Training(
            data=self.data, tokens=self.tokens, batch=self.batch, context=self.context, packing=self.packing,
            optimizer=Optimizer(lr=self.lr), schedule=self.schedule, precision=precision,
            validation=self.validation or Validation(), checkpoint_every=self.checkpoint_every,
        )  # fmt: skip


class Settings(Frozen):
    recover: Recover
    linears: Literal["converted", "frozen_random"] = "converted"
    """frozen_random: as drawn, and never trained."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of matrix products; as in finetune."""

    @property
    def training(self) -> Training:
        return self.recover.training(self.precision)


class ToL2Settings(Settings):
    form: Literal["shared_coordinates", "low_rank"] = "shared_coordinates"
    """low_rank: the same tables and matrices without the sine, as a control of the same size."""
    meta_components: int = Field(default=META_COMPONENTS, ge=1)
    """Coordinates of a neuron."""


class ToL3Settings(Settings):
    depth_harmonics: int = Field(ge=1)
    """At most as many as layers."""


class _ToLevel(ABC):
    @abstractmethod
    def config_model(self) -> type[BaseModel]: ...

    @abstractmethod
    def keys(self, config: BaseModel, before: Mapping[str, Any]) -> dict[str, Any]:
        """Of the new model's setting, those of its level. before: the setting of the model that comes in."""

    def after(self, config: BaseModel, before: Mapping[str, Any]) -> dict[str, Any]:
        """The `model` setting of what goes out. Raises PlanError where no such model is possible."""
        known = set(HarmonicConfig.model_fields) - set(LEVEL_1)
        kept = {key: value for key, value in before.items() if key in known}
        kept |= self.keys(config, before)
        if kept.get("form") == "low_rank":  # has no sine
            kept.pop("omega", None)
        try:
            made = HarmonicConfig.model_validate(kept)
        except ValidationError as error:
            said = error.errors()[0]
            where = ".".join(str(part) for part in said["loc"]) or "config"
            raise PlanError(where, said["msg"].removeprefix("Value error, "), "a model that has this level") from None
        return {"system": "harmonic", **made.model_dump(mode="json")}

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, Settings)
        looks = training.METRICS if config.recover.validation else {
            name: emitted for name, emitted in training.METRICS.items() if not name.startswith("val/")
        }  # fmt: skip
        if config.linears == "frozen_random":
            return looks
        return {**looks, "convert/unexplained_energy": Emitted("share", "lower")}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model", "state": "state"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return training.parts_read(config.training)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        shapes = [self.shape(before), self.shape(after)]
        return "" if shapes[0] == shapes[1] else f"another shape: {shapes[0]}, then {shapes[1]}"

    @abstractmethod
    def shape(self, config: BaseModel) -> str:
        """What has to stay the same for a state to fit, in words."""

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return (config.training.validation_part,) if config.recover.validation else ()

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        from bloomery.stages.pricing import training_cost

        assert isinstance(config, Settings)
        settings = config.training
        if model is None:
            return Cost(tokens=settings.steps * settings.batch * settings.context)
        return training_cost(settings, self.after(config, model), vocab)

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        """Nothing to solve: low_rank has the same size, and a dense twin comes in as a model of its own."""
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        assert isinstance(config, Settings)
        return training.tokens_read(ctx, config.training)

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models
        from bloomery.stages.pricing import training_cost
        from bloomery.systems.harmonic import converting

        assert isinstance(config, Settings)
        assert ctx.data is not None
        models.use_threads(ctx.threads)
        settings = config.training
        precision = ctx.precision if settings.precision == "auto" else settings.precision
        given, tokenizer = ctx.inputs["model"].path, Prepared.open(ctx.data).tokenizer
        models.check_tokenizer(given, tokenizer)
        after = self.after(config, models.settings_of(given))
        with training.memory_named(settings, ctx.device, building=f"the model of the {ctx.who}"):
            source = models.load_model(given, precision="fp32")
            model = models.build(after, ctx.vocab, precision=precision, seed=ctx.seed)
            if config.linears == "frozen_random":
                converting.take_over(model, source)
                converting.freeze_linears(model)
            else:
                done = converting.from_harmonic(model, source)
                ctx.measure("convert/unexplained_energy", done.unexplained_energy)
                ctx.note("note", text=f"converted by {done.way}: {done.unexplained_energy:.1%} of the energy is lost")
            model = model.to(ctx.device).train()
        cost = training_cost(settings, after, ctx.vocab)
        looks = config.recover.validation is not None
        hashes = training.train(ctx, settings, model, cost.flops / cost.tokens, looks=looks)
        models.save(ctx.workdir / "model", model, after, precision, tokenizer)
        return StageResult(
            outputs={"model": ctx.workdir / "model", "state": ctx.workdir / "state"},
            tallies={"model": model.tally()},
            hashes=hashes,
        )


class ToL2(_ToLevel):
    def config_model(self) -> type[BaseModel]:
        return ToL2Settings

    def keys(self, config: BaseModel, before: Mapping[str, Any]) -> dict[str, Any]:
        assert isinstance(config, ToL2Settings)
        return {
            "level": 2, "form": config.form, "meta_components": config.meta_components, "depth_harmonics": None,
        }  # fmt: skip

    def shape(self, config: BaseModel) -> str:
        assert isinstance(config, ToL2Settings)
        return f"{config.form} of {config.meta_components} meta_components"


class ToL3(_ToLevel):
    def config_model(self) -> type[BaseModel]:
        return ToL3Settings

    def keys(self, config: BaseModel, before: Mapping[str, Any]) -> dict[str, Any]:
        """A budget may know only of a model further up, which is not of level 2 yet."""
        assert isinstance(config, ToL3Settings)
        components = before.get("meta_components") or META_COMPONENTS
        return {"level": 3, "meta_components": components, "depth_harmonics": config.depth_harmonics}

    def shape(self, config: BaseModel) -> str:
        assert isinstance(config, ToL3Settings)
        return f"{config.depth_harmonics} depth_harmonics"
