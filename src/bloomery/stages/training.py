"""From typed settings to the one loop: what every gradient stage does, whatever model it trains."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bloomery.engine.artifact import write_atomically
from bloomery.engine.stage import StageContext, Stopped
from bloomery.errors import ArtifactError
from bloomery.measure import Emitted
from bloomery.stages.looking import LOOKS, measure
from bloomery.stages.settings import Init, Training

if TYPE_CHECKING:
    from bloomery.model.interface import LanguageModel
    from bloomery.stages.starting import Start
    from bloomery.stages.tuning import Served, Tuning
    from bloomery.train.loop import FitConfig

LOSS = Emitted("nats_per_token", "lower")
METRICS = {
    "train/loss": LOSS,
    "train/plateau": Emitted("", "lower"),
    "train/spikes": Emitted("", "lower"),
    "train/non_finite": Emitted("", "lower"),
    "train/steps": Emitted(),
    "train/tokens_per_second": Emitted("per_second", "higher"),
    "train/model_flop_utilisation": Emitted("share", "higher"),
    **LOOKS,
}
NO_MEMORY = ("can't allocate memory", "not enough memory")
"""What torch's CPU allocator says, in a RuntimeError of no kind of its own."""
READINGS = "readings.json"
"""In a `state`: what its model has read, first to last. A stage that goes on from it reads further."""


@dataclass(frozen=True, slots=True)
class Addition:
    """`count` further examples of a category, among what is read from step `step` of a reading on."""

    step: int
    category: str
    count: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Steps `first_step` up to `first_step + steps` of one sequence of batches (data.mix.Batches)."""

    data: Mapping[str, float]
    batch: int
    context: int
    packing: Literal["stream", "documents"]
    first_step: int
    steps: int
    formats: Mapping[str, int] = field(default_factory=dict[str, int])
    """How many examples of its first part once more in which other form (data/formats.py)."""
    added: tuple[Addition, ...] = ()
    """Further examples of its first part, in the order of their steps."""

    @property
    def tokens(self) -> int:
        return self.steps * self.batch * self.context


def train(
    ctx: StageContext,
    config: Training,
    model: LanguageModel,
    flops_per_token: float,
    *,
    start: Start | None = None,
    tuning: Tuning | None = None,
    looks: bool = True,
) -> dict[str, str]:
    """Train `model` in place, looking at held-out text on the way; leaves `state` in the workdir.

    start: how its weights began. tuning: what a stage reads that reads by category. looks: whether there is held-out
    text to look at. Returns the sha256 of weights and optimiser. Raises Stopped, after saving, when the engine asks.
    """
    from bloomery.data.prepared import Prepared
    from bloomery.evaluate.perplexity import perplexity
    from bloomery.train.loop import fit

    assert ctx.data is not None
    prepared = Prepared.open(ctx.data)
    validation = prepared.part(config.validation_part) if looks else None

    def look(model: LanguageModel, step: int) -> None:
        if validation is None:
            return
        result = perplexity(
            model,
            validation,
            context=config.context,
            device=ctx.device,
            max_documents=config.validation.documents,
            documents=None if tuning is None else tuning.documents,
        )
        measure(ctx, result, **at(step))
        if start is not None:
            start.look(model, step, result.loss, lambda name, value: ctx.measure(name, value, **at(step)))
        if tuning is not None:
            tuning.looked(result, at(step))

    def watched(step: int, measured: Mapping[str, float]) -> None:
        for name, value in measured.items():
            ctx.measure(name, value, unit=METRICS[name].unit, **at(step))

    reading = next_reading(ctx, config) if tuning is None else tuning.reading
    readings = [*readings_before(ctx), reading]
    read_before = sum(reading.tokens for reading in readings[:-1])

    def at(step: int) -> dict[str, Any]:
        tokens = read_before + step * config.batch * config.context
        return {"step": step, "tokens": tokens, "share": step / config.steps}

    with memory_named(config, ctx.device):
        result = fit(
            model,
            batches(ctx, reading) if tuning is None else tuning.batches,
            fit_config(ctx, config, start),
            checkpoint=ctx.checkpoint,
            device=ctx.device,
            initial_state=begins_from(ctx),
            signature={
                "data": prepared.digest,
                "settings": config.model_dump(mode="json"),
                "seed": ctx.seed,
                **({} if tuning is None else tuning.signature),
            },
            allow_changed=ctx.allow_changed,
            evaluate=look,
            on_look=watched,
            on_point=ctx.point,
            on_progress=ctx.progress,
            on_note=lambda text: ctx.note("note", text=text),
            should_stop=ctx.should_stop,
            on_step=lambda tokens: ctx.spend(tokens=tokens, flops=tokens * flops_per_token),
        )
    if result.stopped:
        raise Stopped
    shutil.copytree(result.checkpoint, ctx.workdir / "state", dirs_exist_ok=True)
    if start is not None:
        start.keep(ctx.checkpoint, ctx.workdir / "state")
    if tuning is not None:
        readings[-1] = tuning.reading
    written = json.dumps([asdict(one) for one in readings], indent=1)
    write_atomically(ctx.workdir / "state" / READINGS, written.encode())
    for name, value in result.measurements.items():
        ctx.measure(name, value, unit=METRICS[name].unit)
    ctx.measure("train/non_finite", 0.0)
    return {"weights": result.weights_hash, "optimiser": result.optimiser_hash}


@contextmanager
def memory_named(config: Training, device: str, building: str = "") -> Iterator[None]:
    """Where memory runs out, raise ArtifactError: the settings or the machine are at fault, not what was trained.

    building: what is being made, where nothing is trained yet."""
    import torch

    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in said for words in NO_MEMORY):
            raise
        said = said.strip().partition("\n")[0]
        if building:
            raise ArtifactError(
                f"memory of {device}", f"exhausted while building {building} ({said})", "enough for its weights",
                "a smaller model, or another machine; `bloomery budget PLAN` says what a plan takes",
            ) from error  # fmt: skip
        raise ArtifactError(
            f"memory of {device}",
            f"exhausted at batch {config.batch}, accumulate {config.accumulate}, context {config.context} ({said})",
            "enough for one micro-batch, the gradients and the optimiser",
            "a smaller `batch`, a larger `accumulate` (the same update) or `activation_checkpointing: true`; "
            "`bloomery budget PLAN` says what a plan takes",
        ) from error


def parts_read(config: Training) -> tuple[str, ...]:
    """The parts of data that a stage of these settings learns from: `corpus:train`."""
    return tuple(part if ":" in part else f"{part}:train" for part in config.data)


def begins_from(ctx: StageContext) -> Path | None:
    """The training state to go on from: of the last attempt, or one that comes in as `state`."""
    if ctx.continue_from is not None:
        return ctx.continue_from
    return ctx.inputs["state"].path if "state" in ctx.inputs else None


def tokens_read(ctx: StageContext, config: Training, init: int | None = None) -> Iterator[Any]:
    """Every batch that the model has read, earlier attempts that it went on from included.

    Of a stage that has ended by its own record: what it added on its way is told by nothing else. init: tokens that
    its init has counted, where those are more than it was trained on."""
    record = ctx.workdir / "state"
    ended = (record / READINGS).is_file()
    for reading in readings_in(record) if ended else (*readings_before(ctx), next_reading(ctx, config)):
        reader = batches(ctx, reading)
        further = (init or 0) // (reading.batch * reading.context) if reading.first_step == 0 else 0
        for step in range(max(reading.steps, further)):
            yield reader.batch_at(step)


def readings_before(ctx: StageContext) -> list[Reading]:
    """Of the attempts that this one goes on from. Raises ArtifactError where their record is damaged."""
    state = begins_from(ctx)
    return [] if state is None else readings_in(state)


def readings_in(state: Path) -> list[Reading]:
    """As a training state records them. Raises ArtifactError where they are damaged."""
    file = state / READINGS
    try:
        found = [Reading(**reading) for reading in json.loads(file.read_text())]
        return [replace(one, added=tuple(Addition(**each) for each in one.added)) for one in found]  # pyright: ignore
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(str(file), f"cannot be read ({error})", "what this state's model has read") from None


def next_reading(ctx: StageContext, config: Training, formats: Mapping[str, int] | None = None) -> Reading:
    """What this stage reads: further of the same sequence, with what was added to it, or of another one as many tokens
    in."""
    before = readings_before(ctx)
    mine = Reading(dict(config.data), config.batch, config.context, config.packing, 0, config.steps, formats or {})
    if not before:
        return mine
    last = before[-1]
    same_order = list(last.data) == list(mine.data)
    if same_order and replace(last, first_step=0, steps=mine.steps, added=()) == mine:
        added = tuple(replace(one, step=0) for one in last.added)
        return replace(mine, first_step=last.first_step + last.steps, added=added)
    read = sum(reading.tokens for reading in before)
    return replace(mine, first_step=-(-read // (mine.batch * mine.context)))


def batches(ctx: StageContext, reading: Reading) -> Served:
    from bloomery.stages.material import Material
    from bloomery.stages.tuning import Served

    assert ctx.data is not None
    return Served(Material(ctx.data, ctx.inputs, reading.data, reading.formats), reading, ctx.seed)


def fit_config(ctx: StageContext, config: Training, start: Start | None = None) -> FitConfig:
    from bloomery.train.loop import FitConfig
    from bloomery.train.optim import OptimizerConfig
    from bloomery.train.schedule import ScheduleConfig

    optimizer, schedule = config.optimizer, config.schedule
    init = Init() if start is None else start.settings
    embedding_lr = optimizer.embedding_lr
    if init.embedding_lr != 1.0:
        embedding_lr = init.embedding_lr * (optimizer.lr if embedding_lr is None else embedding_lr)
    return FitConfig(
        steps=config.steps,
        accumulate=config.accumulate,
        optimizer=OptimizerConfig(
            name=optimizer.name,
            lr=optimizer.lr,
            embedding_lr=embedding_lr,
            gain_lr=optimizer.gain_lr,
            weight_decay=optimizer.weight_decay,
            betas=(optimizer.beta1, optimizer.beta2),
            epsilon=optimizer.epsilon,
            relative=optimizer.relative,
        ),
        schedule=ScheduleConfig(
            name=schedule.name,
            warmup=schedule.warmup,
            decay=schedule.decay,
            floor=schedule.floor,
            embedding_warmup=init.warmup,
        ),
        clip=optimizer.clip or 0.0,
        compile=config.compile,
        activation_checkpointing=config.activation_checkpointing,
        evaluate_at=() if start is None else start.probes,
        evaluate_every=math.ceil(config.steps * config.validation.every) or 1,
        checkpoint_every_seconds=float(config.checkpoint_every),
        seed=ctx.seed,
        threads=ctx.threads,
    )


def native_precision(device: str) -> str:
    """What `precision: auto` means on this machine: bf16 where the processor multiplies it, else fp32.

    Asked once, when a run is opened; from then on the run keeps it."""
    from bloomery.train.device import multiplies_bfloat16

    return "bf16" if multiplies_bfloat16(device)[0] else "fp32"
