"""The settings that stage kinds share: model, data mixture, optimiser, schedule, validation. Typed; no torch.

`model` names a system (default: the plan's, handed in as validation context) and its architecture; it is validated by
that system's own config, so a misspelt key is found by `check`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, SerializeAsAny, ValidationInfo, model_validator

from bloomery.engine.discover import catalogue, load
from bloomery.errors import nearest
from bloomery.model.config import DenseConfig
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Seconds, Share, Tokens


def architecture(model: Mapping[str, Any]) -> DenseConfig:
    """The system's own typed config of a validated `model` setting: a DenseConfig, or one that extends it."""
    settings = dict(model)
    system = catalogue.system(settings.pop("system"))
    return load(system.config).model_validate(settings)


def misfit(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Why the weights of one `model` setting are not those of another, in words; empty where they may be.

    Two shapes are told apart by how many numbers each group of parameters holds, in closed form."""
    if before["system"] != after["system"]:
        return f"another system: {before['system']}, then {after['system']}"
    sizes = [
        {name: group.stored for name, group in architecture(model).tally(_SOME_VOCAB).groups.items()}
        for model in (before, after)
    ]
    for name in sorted({*sizes[0], *sizes[1]}):
        counts = [size.get(name, 0) for size in sizes]
        if counts[0] != counts[1]:
            return f"another shape: {counts[0]:,} numbers in {name}, then {counts[1]:,}"
    return ""


_SOME_VOCAB = 257
"""Any number does: both shapes have the same."""


def _model(value: Any, info: ValidationInfo) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError("a mapping of the model's keys is expected")
    context = info.context or {}
    name = value.get("system", context.get("system", "dense"))
    if name not in catalogue.systems():
        raise ValueError(f"no installed system is called '{name}'; {nearest(name, catalogue.systems())}")
    if not catalogue.system(name).config:
        raise ValueError(f"the system '{name}' has no network to train; `system: dense` is one")
    config = load(catalogue.system(name).config)
    settings = {key: given for key, given in value.items() if key != "system"}
    for key in settings:
        if key not in config.model_fields:
            raise ValueError(f"unknown key '{key}' of a {name} model; {nearest(key, config.model_fields)}")
    return {"system": name, **config.model_validate(settings).model_dump(mode="json")}


ModelSettings = Annotated[dict[str, Any], BeforeValidator(_model)]


def _mixture(value: Any) -> dict[str, float]:
    from bloomery.plan.units import parse_share

    if isinstance(value, str):
        return {value: 1.0}
    if isinstance(value, Sequence):
        value = dict(value)
    if not isinstance(value, Mapping) or not value:
        raise ValueError("a data set's name, or a mapping of names to shares, is expected")
    shares = {name: float(parse_share(share)) for name, share in value.items()}
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"the shares add up to {sum(shares.values()):.4g}, not to 1")
    return shares


def _in_order(shares: dict[str, float]) -> dict[str, float] | list[tuple[str, float]]:
    """As pairs where the order is not the alphabet's, which is what a digest of a mapping sees."""
    return shares if list(shares) == sorted(shares) else list(shares.items())


Mixture = Annotated[dict[str, float], BeforeValidator(_mixture), PlainSerializer(_in_order)]
"""{part of data: share}; a part is NAME or NAME:SPLIT. Their order matters: the first is what is looked at."""


class Optimizer(Frozen):
    """Rates are relative to each tensor's scale at initialisation unless `relative` is false."""

    name: Literal["adamw", "muon"] = "adamw"
    """muon takes matrices between features, and AdamW the rest."""
    lr: float = Field(default=0.02, gt=0)
    """The highest rate. 0.02: a step of at most 2 % of a typical weight."""
    embedding_lr: float | None = Field(default=None, gt=0)
    """Of embedding and head; without it `lr`."""
    gain_lr: float | None = Field(default=None, gt=0)
    """Of norm gains; without it `lr`."""
    weight_decay: float = Field(default=0.1, ge=0)
    """Decoupled; gains and phase factors never decay."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-8, gt=0)
    clip: float | None = Field(default=1.0, gt=0)
    """The largest norm of the gradient; `null`: no limit."""
    relative: bool = True
    """Multiply every rate by its tensor's deviation at initialisation."""


class Init(Frozen):
    """How the weights of a new model begin; a kind that a system brings has further keys of its own."""

    kind: str = "random"
    """random: as the model's system draws them. Others are brought by systems."""
    embedding_lr: float = Field(default=1.0, gt=0)
    """Multiplies the rate of embedding and head."""
    warmup: Share = 0.0
    """The share of the stage over which that rate rises from a tenth of itself, on top of the schedule."""
    tokens: Tokens | None = None
    """How many tokens an init may count; without it those that the stage trains on. More are read on from there, count
    as read by the model, and are more than a control without them has seen."""


def _init(value: Any) -> Init:
    if isinstance(value, Init):
        return value
    if not isinstance(value, Mapping):
        raise ValueError("a mapping of keys is expected")
    name, known = value.get("kind", "random"), catalogue.inits()
    if name != "random" and name not in known:
        raise ValueError(f"no installed system brings an init '{name}'; {nearest(str(name), ['random', *known])}")
    if name == "random" and value.get("tokens") is not None:
        raise ValueError("a random start counts no tokens")
    model = Init if name == "random" else known[name].config_model()
    assert issubclass(model, Init)
    for key in value:
        if key not in model.model_fields:
            raise ValueError(f"unknown key '{key}' of init {name}; {nearest(key, model.model_fields)}")
    return model.model_validate(value)


def _init_of(value: Any, *, trained: bool) -> Init:
    settings = _init(value)
    if settings.kind != "random" and catalogue.init(settings.kind).of_trained != trained:
        found, others = ("a new", "pretrain") if trained else ("a trained", "finetune")
        raise ValueError(f"init {settings.kind} is for {found} model: of {others}")
    return settings


InitSettings = Annotated[SerializeAsAny[Init], BeforeValidator(lambda value: _init_of(value, trained=False))]
TrainedInitSettings = Annotated[SerializeAsAny[Init], BeforeValidator(lambda value: _init_of(value, trained=True))]


def other_optimizer(before: Training, after: Training) -> str:
    """Its state is of another kind; where it is not, the optimiser goes on whatever its rates."""
    names = [before.optimizer.name, after.optimizer.name]
    return "" if names[0] == names[1] else f"another optimiser: {names[0]}, then {names[1]}"


class Schedule(Frozen):
    name: Literal["cosine", "linear", "constant", "wsd", "warm_restart"] = "cosine"
    """wsd: warm up, stay, decay. warm_restart: cosine that begins at `floor`, to go on from a checkpoint."""
    warmup: Share = 0.05
    """The share of the stage over which the rate rises."""
    decay: Share = 0.2
    """wsd: the share of the stage over which the rate falls."""
    floor: Share = 0.05
    """The last rate, as a share of the highest."""


class Validation(Frozen):
    """How often and on what the stage looks at held-out text while it trains (`val/loss`)."""

    split: str = "dev"
    """A split of the first set under `data`. Rules choose remedies by `val/loss`: not the split that gates judge."""
    every: Share = 0.25
    """The share of the stage between two looks."""
    documents: int | None = Field(default=8, ge=1)
    """At most this many documents, evenly spread; None: all."""


class Training(Frozen):
    """What every gradient stage is told."""

    data: Mixture = Field(default_factory=lambda: {"corpus": 1.0})
    """A part, or `{part: share}`; shares add up to 1. A part is `NAME` (its train split) or `NAME:SPLIT`."""
    tokens: Tokens
    """How many are read: whole steps of batch x context, rounded down."""
    batch: int = Field(default=8, ge=1)
    """Sequences per optimiser step."""
    accumulate: int = Field(default=1, ge=1)
    """Parts that a batch is cut into, to save memory; the gradient is the same."""
    context: int = Field(default=128, ge=2)
    """Tokens in a sequence."""
    packing: Literal["stream", "documents"] = "stream"
    """stream: sequences run across documents. documents: whole ones side by side that do not see each other."""
    optimizer: Optimizer = Optimizer()
    """Below."""
    schedule: Schedule = Schedule()
    """Below."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of matrix products; weights stay fp32. auto: bf16 where the processor that a run begins on multiplies it."""
    compile: bool = False
    """torch.compile; another run than the uncompiled one, to the last bits."""
    activation_checkpointing: bool = False
    """Compute blocks again in the backward pass in place of keeping their activations."""
    validation: Validation = Validation()
    """Below."""
    checkpoint_every: Seconds = 20
    """Never more than 1 % of the time is spent on it. It changes no result."""

    @model_validator(mode="after")
    def _divides(self) -> Training:
        if self.batch % self.accumulate:
            raise ValueError(f"batch {self.batch} cannot be cut into {self.accumulate} equal parts")
        if self.tokens < self.batch * self.context:
            raise ValueError(
                f"tokens {self.tokens} are less than one step of {self.batch} x {self.context} = "
                f"{self.batch * self.context}"
            )
        return self

    @property
    def steps(self) -> int:
        return self.tokens // (self.batch * self.context)

    @property
    def validation_part(self) -> str:
        return next(iter(self.data)).partition(":")[0] + ":" + self.validation.split
