"""fit(): the only gradient loop.

A step is: reseed from (seed, step); for each micro-batch forward and backward of the summed loss over the global count
of valid tokens; clip by one global norm; check that all is finite; optimiser. `train_step` is that step and nothing
else, so that a benchmark times what users run. Refuses zero steps, a batch that `accumulate` does not divide, and
resuming a checkpoint of other settings.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from bloomery.errors import TrainingError
from bloomery.model.interface import LanguageModel
from bloomery.train import checkpoint as checkpoints
from bloomery.train import watch
from bloomery.train.compiling import Forward, compiled_forward, compiler_named
from bloomery.train.device import matmul_peak, reproducibly
from bloomery.train.objectives import IGNORE, TokenBatch, summed_loss, valid_targets
from bloomery.train.optim import Optimisers, OptimizerConfig
from bloomery.train.parallel import World, world
from bloomery.train.schedule import ScheduleConfig, embedding_factor, factor
from bloomery.train.state import TrainState, capture, hash_optimiser, hash_weights, reseed, restore_weights

POINTS = 100
"""Points of the training curve per run."""
SAVE_SHARE = 0.01
"""Saving takes at most this share of the time, however often it is asked for."""


@runtime_checkable
class Batches(Protocol):
    """Where batches come from; `batch_at` must be a pure function of the step."""

    def batch_at(self, step: int) -> TokenBatch: ...


@runtime_checkable
class Carrying(Protocol):
    """Batches that what is measured on the way may change, from a later step on. What they have become is a part of the
    training state; `batch_at` is a pure function of the step and of that."""

    def carried(self) -> dict[str, Any]: ...
    def restore(self, carried: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True, slots=True)
class FitConfig:
    steps: int
    accumulate: int = 1
    """Micro-batches that each batch is cut into: less memory, the same update."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    clip: float = 1.0
    """Largest global gradient norm; 0: no clipping."""
    compile: bool = False
    """torch.compile of the model up to the loss. Another run than the uncompiled one, to the last bit."""
    activation_checkpointing: bool = False
    evaluate_every: int = 0
    """Steps between evaluations; 0: only at the end. The last step is always evaluated."""
    evaluate_at: tuple[int, ...] = ()
    """Steps done after which to evaluate too; 0: before the first."""
    checkpoint_every_seconds: float = 20.0
    seed: int = 0
    threads: int | None = None
    """CPU threads; None: as torch has them now."""
    auxiliary: Mapping[str, float] = field(default_factory=dict)
    """Weights of the model's further losses, by name."""


@dataclass(frozen=True, slots=True)
class FitResult:
    stopped: bool
    """True: should_stop said so, the state is saved, and the same call goes on from it."""
    step: int
    tokens: int
    weights_hash: str
    optimiser_hash: str
    measurements: dict[str, float]
    """train/loss, train/plateau, train/spikes, train/steps, train/tokens_per_second, train/model_flop_utilisation:
    the last is 3 * forward FLOPs of the tally * tokens per second / the measured matmul peak; attention scores, which
    the tally leaves out, are not counted."""
    checkpoint: Path
    """The final training state, as `initial_state` takes it."""
    notes: tuple[str, ...]


def fit(
    model: LanguageModel,
    batches: Batches,
    config: FitConfig,
    *,
    checkpoint: Path,
    device: str = "cpu",
    initial_state: Path | None = None,
    signature: Mapping[str, Any] | None = None,
    allow_changed: Collection[str] = (),
    evaluate: Callable[[LanguageModel, int], None] | None = None,
    on_look: Callable[[int, Mapping[str, float]], None] = lambda step, measured: None,
    on_point: Callable[..., None] = lambda **facts: None,
    on_progress: Callable[..., None] = lambda **facts: None,
    on_step: Callable[[int], None] = lambda tokens: None,
    on_note: Callable[[str], None] = lambda note: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> FitResult:
    """Train `model` in place, from the newest whole checkpoint in the folder `checkpoint` if there is one.

    initial_state: a finished run's final state (FitResult.checkpoint) whose weights and optimiser to begin with; steps
    count anew. signature: further facts (data digest, model settings) that a resume must find unchanged; allow_changed:
    keys of it that may differ. evaluate(model, steps done) is called in eval mode, and before it on_look(steps done,
    measurements so far), of train/loss, train/spikes and train/plateau; on_point gets step, tokens, loss,
    lr, tokens_per_second and gradient_norm about 100 times; on_progress step, steps, tokens, loss, tokens_per_second
    at most five times a second; on_step the valid tokens of every step.
    Raises TrainingError (non-finite values, zero steps, uncovered parameters) and ArtifactError (checkpoints).
    """
    if config.steps < 1:
        raise TrainingError("steps", f"{config.steps}: nothing would be trained", "at least 1 step",
                            "more tokens, or fewer tokens per step")  # fmt: skip
    with reproducibly(config.threads, device), compiler_named(config.compile):
        run = _Run(model, batches, config, device, checkpoint, dict(signature or {}), on_note)
        run.begin(initial_state, allow_changed)
        stopped = run.train(evaluate, on_look, on_point, on_progress, on_step, should_stop)
        return run.result(stopped)


def train_step(
    model: LanguageModel, forward: Forward, batch: TokenBatch, optimisers: Optimisers, config: FitConfig,
    lr_factor: float, where: World, step: int, embedding_factor: float = 1.0,
) -> tuple[float, float, int]:  # fmt: skip
    """One update; returns (mean token loss in nats, gradient norm before clipping, valid tokens of all processes).

    step counts from 1 and is only named in errors. Weights are untouched if anything is not finite.
    """
    targets = valid_targets(batch)
    count = where.sum_counts(int((targets != IGNORE).sum()))
    if count == 0:
        hint = "a longer context, so that responses stand behind their prompts; or a larger batch"
        raise TrainingError(
            f"step {step}", "no token of the batch is learned from", "at least one unmasked target", hint
        )
    nats = 0.0
    rows = targets.shape[0] // config.accumulate
    for start in range(0, targets.shape[0], rows):
        part = slice(start, start + rows)
        output = forward(batch.tokens[part], None if batch.segments is None else batch.segments[part])
        objective, summed = summed_loss(model, output, targets[part], config.auxiliary)
        (objective / count).backward()
        nats += float(summed)
    gradients = [p.grad for p in optimisers.parameters.values() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    gradient_norm, loss = float(norm), nats / count
    watch.check_finite(step, loss, gradient_norm, model)
    if config.clip and gradient_norm > config.clip:
        torch._foreach_mul_(gradients, config.clip / gradient_norm)
    optimisers.set_factor(lr_factor, embedding_factor)
    optimisers.step()
    optimisers.zero_grad()
    return loss, gradient_norm, count


class _Run:
    """What changes while fit() runs."""

    def __init__(
        self, model: LanguageModel, batches: Batches, config: FitConfig, device: str, folder: Path,
        signature: dict[str, Any], on_note: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.model, self.batches, self.config, self.device, self.folder = model, batches, config, device, folder
        self.world = world()
        model.to(device)
        model.activation_checkpointing = config.activation_checkpointing
        self.optimisers = Optimisers(model, config.optimizer)
        self.forward = compiled_forward(model, config.compile)
        self.step, self.tokens, self.seconds, self.losses = 0, 0, 0.0, list[float]()
        self.saved_step, self.notes, self.on_note = -1, list[str](), on_note
        shape = batches.batch_at(0).tokens.shape
        if shape[0] % config.accumulate:
            raise TrainingError("accumulate", f"{config.accumulate} does not divide the batch of {shape[0]}")
        settings = dataclasses.asdict(config)
        for free in ("checkpoint_every_seconds", "evaluate_every", "evaluate_at", "threads"):
            del settings[free]
        self.signature = {**settings, "world": self.world.size, "batch": list(shape),
                          "compute_dtype": str(model.compute_dtype), **signature}  # fmt: skip

    def begin(self, initial_state: Path | None, allow_changed: Collection[str]) -> None:
        found = checkpoints.load(self.folder)
        if found is not None:
            state, notes = found
            self._note(*notes)
            checkpoints.check_signature(state["signature"], self.signature, str(self.folder), allow_changed)
            self.step, self.tokens = state["step"], state["tokens"]
            self.seconds, self.losses = state["seconds"], state["losses"]
            self.saved_step = self.step
            if isinstance(self.batches, Carrying) and state["carried"]:
                self.batches.restore(state["carried"])
            if self.step:
                self._note(f"goes on from step {self.step}")
        elif initial_state is not None:
            state = checkpoints.read(initial_state)
        else:
            return
        restore_weights(self.model, state["weights"], str(self.folder))
        on_device = {name: value.to(self.device) for name, value in state["optimiser"].items()}
        self.optimisers.load(on_device)

    def train(
        self,
        evaluate: Callable[[LanguageModel, int], None] | None,
        on_look: Callable[[int, Mapping[str, float]], None],
        on_point: Callable[..., None],
        on_progress: Callable[..., None],
        on_step: Callable[[int], None],
        should_stop: Callable[[], bool],
    ) -> bool:
        """Steps until the last one or until told to stop; returns whether it was stopped."""
        config, every = self.config, max(1, self.config.steps // POINTS)
        shown = saved = time.perf_counter()
        save_seconds = 0.0
        # At the last step already: killed after the last save, before anyone was told.
        if evaluate is not None and (self.step == config.steps or (self.step == 0 and 0 in config.evaluate_at)):
            self._evaluate(evaluate, on_look)
        self.model.train()
        while self.step < config.steps:
            if should_stop():
                self.save()
                return True
            begun = time.perf_counter()
            reseed(config.seed, self.step)
            rate = factor(config.schedule, self.step, config.steps)
            batch = on_device(self.batches.batch_at(self.step), self.device)
            loss, norm, count = train_step(
                self.model, self.forward, batch, self.optimisers, config, rate, self.world, self.step + 1,
                embedding_factor(config.schedule, self.step, config.steps),
            )  # fmt: skip
            now = time.perf_counter()
            self.step, self.tokens, self.seconds = self.step + 1, self.tokens + count, self.seconds + now - begun
            self.losses.append(loss)
            on_step(count)
            speed = self.tokens / self.seconds
            if self.step % every == 0 or self.step == config.steps:
                on_point(step=self.step, tokens=self.tokens, loss=loss, lr=config.optimizer.lr * rate,
                         tokens_per_second=speed, gradient_norm=norm)  # fmt: skip
            if now - shown > 0.2 or self.step == config.steps:
                on_progress(step=self.step, steps=config.steps, tokens=self.tokens, loss=loss, tokens_per_second=speed)
                shown = now
            due = self.step in config.evaluate_at or (config.evaluate_every and self.step % config.evaluate_every == 0)
            if evaluate is not None and (due or self.step == config.steps):
                self._evaluate(evaluate, on_look)
            if time.perf_counter() - saved > max(config.checkpoint_every_seconds, save_seconds / SAVE_SHARE):
                begun = time.perf_counter()
                self.save()
                saved = time.perf_counter()
                save_seconds = saved - begun
        self.save()
        return False

    def _evaluate(
        self, evaluate: Callable[[LanguageModel, int], None], on_look: Callable[[int, Mapping[str, float]], None]
    ) -> None:
        if self.losses:
            on_look(self.step, self._watched())
        self.model.eval()
        evaluate(self.model, self.step)
        self.model.train()

    def save(self) -> None:
        if self.saved_step == self.step:
            return
        weights, optimiser = capture(self.model, self.optimisers)
        checkpoints.save(
            self.folder,
            TrainState(weights=weights, optimiser=optimiser, losses=self.losses, step=self.step, tokens=self.tokens,
                       seconds=self.seconds, signature=self.signature,
                       carried=self.batches.carried() if isinstance(self.batches, Carrying) else {}),
        )  # fmt: skip
        self.saved_step = self.step

    def result(self, stopped: bool) -> FitResult:
        measurements: dict[str, float] = {"train/steps": float(self.step)}
        if self.losses:
            speed = self.tokens / self.seconds
            flops = 3.0 * self.model.tally().flops_per_token
            measurements |= {
                **self._watched(),
                "train/tokens_per_second": speed,
                "train/model_flop_utilisation": flops * speed / matmul_peak(self.device),
            }
        return FitResult(
            stopped, self.step, self.tokens, hash_weights(self.model), hash_optimiser(self.optimisers), measurements,
            checkpoints.steps(self.folder)[-1], tuple(self.notes),
        )  # fmt: skip

    def _watched(self) -> dict[str, float]:
        return {
            "train/loss": watch.final_loss(self.losses),
            "train/plateau": watch.plateau(self.losses),
            "train/spikes": float(watch.spikes(self.losses)),
        }

    def _note(self, *notes: str) -> None:
        for note in notes:
            self.notes.append(note)
            self.on_note(note)


@dataclass(frozen=True, slots=True)
class DeviceBatch:
    """A batch on the device it is computed on."""

    tokens: Tensor
    targets: Tensor
    mask: Tensor | None
    segments: Tensor | None


def on_device(batch: TokenBatch, device: str) -> TokenBatch:
    if device == "cpu":
        return batch

    def move(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device, non_blocking=True)

    return DeviceBatch(batch.tokens.to(device, non_blocking=True), batch.targets.to(device, non_blocking=True),
                       move(batch.mask), move(batch.segments))  # fmt: skip
