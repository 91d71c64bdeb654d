"""The small interface of every stage, suite, codec and baseline, with or without gradients.

A stage kind is importable without torch; heavy imports happen inside `run`. It writes its outputs as folders below
`ctx.workdir`, measures through `ctx.measure`, saves its own resume state under `ctx.checkpoint`, and stops when
`ctx.should_stop()` says so by saving and raising Stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel

from bloomery.engine.artifact import Artifact
from bloomery.measure import Emitted, Interval, Items, Measurement, Tally

StopReason = Literal["signal", "budget", "stop_if"]


class Stopped(Exception):
    """Raised by a stage after it saved: not an error. The runner says how to go on."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a stage is expected to use, per cell (one seed of one arm). Bytes are peaks, the rest totals."""

    tokens: int = 0
    flops: float = 0.0
    seconds: float | None = None
    """Only where a kind knows it without a device, for example harvesting; else derived from flops."""
    weight_bytes: float = 0.0
    gradient_bytes: float = 0.0
    optimiser_bytes: float = 0.0
    activation_bytes: float = 0.0
    disk_bytes: float = 0.0
    generated_bytes: float = 0.0
    """Of weights that are made in every pass, were they kept from forward to backward: in no sum."""
    largest_generated_bytes: float = 0.0
    """Of the largest of their matrices: what is held while each is made again. In no sum."""
    tally: Tally | None = None

    @property
    def memory_bytes(self) -> float:
        return self.weight_bytes + self.gradient_bytes + self.optimiser_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True)
class StageResult:
    """outputs: {name: folder below workdir}. tallies: {output name: Tally} for outputs that are models."""

    outputs: Mapping[str, Path] = field(default_factory=dict)
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    """sha256 of weights and of optimiser state, compared by the resume tests."""


@dataclass(slots=True)
class StageContext:
    """What the engine hands to one cell of a stage: one seed of the candidate or of the control."""

    inputs: Mapping[str, Artifact]
    data: Path | None
    """The prepared data folder, or None where the plan has no data."""
    workdir: Path
    checkpoint: Path
    """A folder of this cell's own; what stands in it at start is this cell's interrupted state."""
    seed: int
    who: str
    device: str
    threads: int
    precision: str
    """bf16 or fp32: what `precision: auto` means in this run."""
    vocab: int
    system: str
    allow_changed: tuple[str, ...] = ()
    """What of its checkpoint's signature a resumed cell may find changed (train.loop.fit)."""
    judged: BaseModel | None = None
    """Of a baseline: the settings of the stage that built the judged model."""
    continue_from: Path | None = None
    """`from: checkpoint`: the last attempt's final training state."""
    previous: Mapping[str, float] = field(default_factory=dict[str, float])
    """What that attempt's model measured, its suites included: {metric: last value}. It is determined by the state."""
    record: Callable[[Measurement], None] = lambda measurement: None
    looked: Callable[[Measurement, float | None], None] = lambda measurement, share: None
    """Is shown every measurement that was taken on the way, with the share of the stage that is done."""
    progress: Callable[..., None] = lambda **facts: None
    """step, steps, and of training tokens, loss, tokens_per_second: shown, never stored. told: {name: value}, whatever
    else a person wants to watch."""
    point: Callable[..., None] = lambda **facts: None
    """A point of a training curve, stored in the events."""
    note: Callable[..., None] = lambda event, **facts: None
    """Any further fact: event=..., key=value."""
    stop_reason: Callable[[], StopReason | None] = lambda: None
    spend: Callable[..., None] = lambda **amounts: None
    """tokens=, flops=: adds to the ledger."""

    def should_stop(self) -> bool:
        return self.stop_reason() is not None

    def measure(
        self,
        name: str,
        value: float,
        *,
        n: int = 1,
        interval: Interval | None = None,
        step: int | None = None,
        unit: str = "",
        items: Items | None = None,
        tokens: int | None = None,
        share: float | None = None,
    ) -> None:
        """step, tokens, share: of a look on the way, how far the stage had come (share from 0 to 1). `stop_if` is
        judged on such looks; should_stop() says so afterwards."""
        measured = Measurement(name, float(value), n, interval, self.seed, unit, self.who, step, items, tokens)
        self.record(measured)
        if step is not None:
            self.looked(measured, share)


class Stage(Protocol):
    """A stage kind. See plan.catalogue.KindInfo for the pure half."""

    def config_model(self) -> type[BaseModel]: ...
    def emits(self, config: BaseModel) -> Mapping[str, Emitted]: ...
    def produces(self, config: BaseModel) -> Mapping[str, str]: ...
    def accepts(self, config: BaseModel) -> Mapping[str, bool]: ...
    def fits_on(self, config: BaseModel) -> tuple[str, ...]: ...
    def misfit(self, before: BaseModel, after: BaseModel) -> str: ...
    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        """May import torch (meta device); nothing is trained. `model`: the settings of the model that comes in; only a
        kind that trains and has no `model` of its own is told."""
        ...

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        """The patch on `config` that turns it into its dense control; None where the kind builds no model."""
        ...

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult: ...
    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        """The token arrays that `run` learns from, in order: what a baseline is fitted on. Empty without training."""
        ...


@runtime_checkable
class ExaminingStage(Protocol):
    """A stage kind that can tell from the prepared data alone that it would refuse them, long before its turn."""

    def examine(self, config: BaseModel, data: Path) -> None:
        """data: the prepared folder. Raises DataError as `run` would."""
        ...


@dataclass(frozen=True, slots=True)
class SuiteResult:
    """Measurements under names without the suite's own; `who` and `seed` are filled in by the runner."""

    measurements: tuple[Measurement, ...] = ()
    samples: tuple[tuple[str, str], ...] = ()
    """(prompt, text) pairs for the report."""


class SuiteKind(Protocol):
    def config_model(self) -> type[BaseModel]: ...
    def emits(self, config: BaseModel) -> Mapping[str, Emitted]: ...
    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        """Judges one artifact; a pure function of it, the settings and the data."""
        ...


@dataclass(frozen=True, slots=True)
class PackedSize:
    """What a packed model weighs: the bytes of its tensors alone, without header, settings and tokenizer."""

    weights: int
    packed: int
    """How many of them the codec's format holds; the rest are kept as they were."""
    bytes: int

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.bytes / self.weights


class Codec(Protocol):
    """Packs a model into fewer bytes. A suite `through` a codec judges what is left after unpacking."""

    def pack(self, model: Path, target: Path) -> None:
        """Writes `model`, a folder, packed to the new folder `target`; a pure function of its content."""
        ...

    def unpack(self, folder: Path) -> Mapping[str, Any]:
        """{parameter: float32 tensor} of a folder that `pack` wrote; how load_model opens it."""
        ...

    def size(self, folder: Path) -> PackedSize: ...


@dataclass(frozen=True, slots=True)
class Begun:
    """What an init leaves behind beside the weights that it has set."""

    remembered: Mapping[str, Any]
    """{name: tensor}: kept with the training state, and handed back to `look`."""
    rival: Any = None
    """The scorer that the weights were fitted to, which their first loss is measured against; None: there is none."""


class InitKind(Protocol):
    """How the weights of a new model begin, where not as its system draws them; or how those of a trained one are begun
    with (`init.kind`)."""

    of_trained: bool
    """Whether it changes weights that were trained (finetune), in place of those of a new model (pretrain)."""

    def config_model(self) -> type[BaseModel]:
        """Extends stages.settings.Init."""
        ...

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        """What `look` gives."""
        ...

    def flops(self, config: BaseModel, *, vocab: int, width: int) -> float: ...
    def begin(self, config: BaseModel, model: Any, tokens: Iterator[Any], *, seed: int, end: int) -> Begun:
        """Sets weights of the LanguageModel in place; a pure function of all that it is given. tokens: the batches that
        the stage is going to learn from, and further ones only as the plan's `init.tokens` says; end: the id of
        end_of_document."""
        ...

    def look(self, config: BaseModel, model: Any, remembered: Mapping[str, Any]) -> Mapping[str, float]:
        """Measured on the way: how far the weights have come from where they began."""
        ...


class BaselineKind(Protocol):
    packable: bool
    """Whether what `fit` hands on is a model folder, which codecs can pack."""

    def config_model(self) -> type[BaseModel]: ...
    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        """Fits on exactly these tokens; outputs {"model": folder}."""
        ...


@runtime_checkable
class PricedBaseline(Protocol):
    """A kind of baseline that takes time worth telling."""

    def cost(self, config: BaseModel, *, tokens: int, built: Cost, vocab: int) -> Cost:
        """Of one cell. tokens: what it is fitted on; built: the cost of the stage that built the judged model;
        vocab: how many ids its tokens have."""
        ...
