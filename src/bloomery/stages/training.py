"""From typed settings to the one loop: what every gradient stage does, whatever model it trains."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bloomery.engine.artifact import write_atomically
from bloomery.engine.stage import StageContext, Stopped
from bloomery.measure import Emitted
from bloomery.stages.settings import Training

if TYPE_CHECKING:
    from bloomery.data.mix import Batches
    from bloomery.model.interface import LanguageModel
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
    "val/loss": LOSS,
    "val/perplexity": Emitted("", "lower"),
    "val/bits_per_byte": Emitted("", "lower"),
}
STEPS_READ = "steps_read.json"
"""In a `state`: how many steps of data its model has read; a stage that goes on from it reads further."""


def train(ctx: StageContext, config: Training, model: LanguageModel, flops_per_token: float) -> dict[str, str]:
    """Train `model` in place, looking at held-out text on the way; leaves `state` in the workdir.

    Returns the sha256 of weights and optimiser. Raises Stopped, after saving, when the engine asks for it.
    """
    from bloomery.data.prepared import Prepared
    from bloomery.evaluate.perplexity import perplexity
    from bloomery.train.loop import fit

    assert ctx.data is not None
    prepared = Prepared.open(ctx.data)
    validation = prepared.part(config.validation_part)

    def look(model: LanguageModel, step: int) -> None:
        result = perplexity(
            model,
            validation,
            context=config.context,
            device=ctx.device,
            max_documents=config.validation.documents,
        )
        items, count = result.items(), len(result.loss_sums)
        ctx.measure("val/loss", result.loss, n=count, step=step, unit=LOSS.unit, items=items)
        ctx.measure("val/perplexity", result.perplexity, n=count, step=step)
        ctx.measure("val/bits_per_byte", result.bits_per_byte, n=count, step=step)

    before = steps_read_before(ctx)
    result = fit(
        model,
        batches(ctx, config, first_step=before),
        fit_config(ctx, config),
        checkpoint=ctx.checkpoint,
        device=ctx.device,
        initial_state=ctx.continue_from,
        signature={"data": prepared.digest, "settings": config.model_dump(mode="json"), "seed": ctx.seed},
        evaluate=look,
        on_point=ctx.point,
        on_progress=ctx.progress,
        on_note=lambda text: ctx.note("note", text=text),
        should_stop=ctx.should_stop,
        on_step=lambda tokens: ctx.spend(tokens=tokens, flops=tokens * flops_per_token),
    )
    if result.stopped:
        raise Stopped
    shutil.copytree(result.checkpoint, ctx.workdir / "state", dirs_exist_ok=True)
    write_atomically(ctx.workdir / "state" / STEPS_READ, json.dumps({"steps": before + config.steps}).encode())
    for name, value in result.measurements.items():
        ctx.measure(name, value, unit=METRICS[name].unit)
    ctx.measure("train/non_finite", 0.0)
    return {"weights": result.weights_hash, "optimiser": result.optimiser_hash}


def tokens_read(ctx: StageContext, config: Training) -> Iterator[Any]:
    """Every batch that the model has read, earlier attempts that it went on from included."""
    reader = batches(ctx, config)
    for step in range(steps_read_before(ctx) + config.steps):
        yield reader.batch_at(step)


def steps_read_before(ctx: StageContext) -> int:
    if ctx.continue_from is None:
        return 0
    return int(json.loads((ctx.continue_from / STEPS_READ).read_text())["steps"])


def batches(ctx: StageContext, config: Training, *, first_step: int = 0) -> Batches:
    from bloomery.data.mix import Batches
    from bloomery.data.prepared import Prepared

    assert ctx.data is not None
    prepared = Prepared.open(ctx.data)
    return Batches(
        [(prepared.part(part), share) for part, share in config.data.items()],
        batch=config.batch,
        context=config.context,
        seed=ctx.seed,
        packing=config.packing,
        first_step=first_step,
    )


def fit_config(ctx: StageContext, config: Training) -> FitConfig:
    from bloomery.train.loop import FitConfig
    from bloomery.train.optim import OptimizerConfig
    from bloomery.train.schedule import ScheduleConfig

    optimizer, schedule = config.optimizer, config.schedule
    return FitConfig(
        steps=config.steps,
        accumulate=config.accumulate,
        optimizer=OptimizerConfig(
            name=optimizer.name,
            lr=optimizer.lr,
            embedding_lr=optimizer.embedding_lr,
            gain_lr=optimizer.gain_lr,
            weight_decay=optimizer.weight_decay,
            betas=(optimizer.beta1, optimizer.beta2),
            epsilon=optimizer.epsilon,
            relative=optimizer.relative,
        ),
        schedule=ScheduleConfig(name=schedule.name, warmup=schedule.warmup, decay=schedule.decay, floor=schedule.floor),
        clip=optimizer.clip or 0.0,
        compile=config.compile,
        activation_checkpointing=config.activation_checkpointing,
        evaluate_every=max(1, round(config.steps * config.validation.every)),
        checkpoint_every_seconds=float(config.checkpoint_every),
        seed=ctx.seed,
        threads=ctx.threads,
    )


def choose_precision(wanted: str, device: str) -> str:
    """`auto`: bf16 where the processor multiplies it natively, else fp32; the choice is stored with the model."""
    from bloomery.train.device import multiplies_bfloat16

    if wanted != "auto":
        return wanted
    return "bf16" if multiplies_bfloat16(device)[0] else "fp32"
