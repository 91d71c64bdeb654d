"""What the engine costs: a whole `bloomery run` of one stage against a bare loop over the same steps.

    python benchmarks/engine_overhead.py --seconds 120

Both train the same dense model on the same batches with the same step function in one process on one thread. The
engine's time is everything between plan and verdict: fingerprints, locks, events, checkpoints, hashes, sealing,
registration, judging; data is prepared beforehand and nothing is evaluated, since that is work asked for.

Two runs of minutes on a shared machine differ by more than the two per cent in question, so nothing rests on the
difference of two totals:

    overhead = outside + inside
    outside  = (the run's time that is neither a step nor evaluation) / (its steps' time): one and the same run
    inside   = median over pairs of (time of a step in the run / time of a step of the bare loop) - 1

A pair is two neighbours in time: after every EVERY-th step of the run the bare loop, with a model of its own, takes
one, which the run is not charged with. (A bare loop in a stretch of its own differed by 5 per cent either way.) A step
is reseeding, rate, batch and update; the bare loop is without torch's deterministic mode. CPU time decides; outside is
given by wall time, too, since waiting for the disk is no CPU time.

Prediction, written before the first run: under 1 %. A checkpoint is allowed 1 %; events are a few hundred lines.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from bloomery.train import loop
from train_step import processor

bare_step = loop.train_step

RESULTS = Path(__file__).parent / "results" / "engine_overhead.json"
PLAN = """
bloomery: 1
name: overhead
system: dense
data: {{tokenizer: {{kind: bytes}}, corpus: {{source: stdlib}}}}
stages:
  - id: pretrain
    kind: pretrain
    config:
      model: {{layers: 4, width: 128, heads: 4}}
      tokens: {tokens}
      batch: 8
      context: 128
      validation: {{every: 100%, documents: 1}}
"""


@dataclass(slots=True)
class Clock:
    """CPU and wall seconds of each span."""

    spans: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    began: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        self.began = (time.process_time(), time.perf_counter())

    def stop(self) -> None:
        cpu, wall = self.began
        self.spans.append((time.process_time() - cpu, time.perf_counter() - wall))

    def total(self, which: int) -> float:
        return sum(span[which] for span in self.spans)

    def cpu(self) -> list[float]:
        return [cpu for cpu, _ in self.spans]


CPU, WALL, EVERY = 0, 1, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="about how long the steps of the run take")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        trial = BareLoop(root)
        for _ in range(100):
            trial.step()
        steps = math.ceil(options.seconds / statistics.median(trial.clock.cpu()))
        run, stepping, evaluation, beside = engine(root, steps)
    outside = [run.total(k) - stepping.total(k) - evaluation.total(k) - beside.total(k) for k in (CPU, WALL)]
    neighbours = stepping.cpu()[EVERY - 1 :: EVERY]
    inside = statistics.median(mine / bare for mine, bare in zip(neighbours, beside.cpu(), strict=True)) - 1
    row = {
        "steps": steps,
        "step_cpu_milliseconds": {
            "run": 1e3 * statistics.median(neighbours),
            "bare": 1e3 * statistics.median(beside.cpu()),
        },
        "pairs": len(neighbours),
        "steps_seconds": {"cpu": stepping.total(CPU), "wall": stepping.total(WALL)},
        "outside_seconds": {"cpu": outside[CPU], "wall": outside[WALL]},
        "evaluation_cpu_seconds": evaluation.total(CPU),
        "inside": inside,
        "outside": outside[CPU] / stepping.total(CPU),
        "outside_by_wall": outside[WALL] / stepping.total(WALL),
        "overhead": inside + outside[CPU] / stepping.total(CPU),
        "prediction": "under 1 %",
        "torch": torch.__version__,
        "processor": processor(),
        "load": [load_before, os.getloadavg()[0]],
    }
    for name, value in row.items():
        print(f"{name:24} {value}")
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(row, indent=1) + "\n")


def _loaded(steps: int, folder: Path):
    from bloomery.plan.load import load_text

    return load_text(PLAN.format(tokens=steps * 1024), folder / "overhead.yaml")


class BareLoop:
    """The loop alone, a step at a time, in the precision that the run chooses."""

    def __init__(self, root: Path, steps: int = 1000) -> None:
        from bloomery.data.mix import Batches
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models
        from bloomery.stages.prepare import prepare_for_run
        from bloomery.stages.pretrain import Settings
        from bloomery.stages.training import native_precision
        from bloomery.train.compiling import compiled_forward
        from bloomery.train.loop import FitConfig
        from bloomery.train.optim import Optimisers, OptimizerConfig

        loaded = _loaded(steps, root)
        _, (folder, _, vocab) = prepare_for_run(loaded.plan.data, root / ".data", lambda **_: None, plan=loaded.raw)
        settings = Settings.model_validate(dict(loaded.plan.stages[0].config))
        self.model = models.build(settings.model, vocab, precision=native_precision("cpu"), seed=0)
        self.batches = Batches([(Prepared.open(folder).part("corpus"), 1.0)], batch=8, context=128, seed=0)
        self.config = FitConfig(steps=steps, optimizer=OptimizerConfig(lr=0.02))
        self.optimisers = Optimisers(self.model, self.config.optimizer)
        self.forward = compiled_forward(self.model, False)
        self.clock, self.done = Clock(), 0

    def step(self) -> None:
        from bloomery.train.parallel import world
        from bloomery.train.schedule import factor
        from bloomery.train.state import reseed

        self.clock.start()
        reseed(0, self.done)
        rate = factor(self.config.schedule, self.done, self.config.steps)
        batch = self.batches.batch_at(self.done)
        bare_step(self.model, self.forward, batch, self.optimisers, self.config, rate, world(), self.done + 1)
        self.clock.stop()
        self.done += 1


def engine(root: Path, steps: int) -> tuple[Clock, Clock, Clock, Clock]:
    """(A whole run, its steps, its evaluation, the bare steps between). A step begins where the loop reseeds."""
    from bloomery.engine.discover import catalogue
    from bloomery.engine.launch import Launch, launch
    from bloomery.evaluate import perplexity

    run, stepping, evaluation, bare = Clock(), Clock(), Clock(), BareLoop(root, steps)

    def after_step() -> None:
        stepping.stop()
        if len(stepping.spans) % EVERY == 0:
            torch.use_deterministic_algorithms(False)
            bare.step()
            torch.use_deterministic_algorithms(True)

    scored = timed(perplexity.perplexity, before=evaluation.start, after=evaluation.stop)
    with (
        mock.patch.object(loop, "reseed", timed(loop.reseed, before=stepping.start)),
        mock.patch.object(loop, "train_step", timed(bare_step, after=after_step)),
        mock.patch.object(perplexity, "perplexity", scored),
    ):
        run.start()
        outcome = launch(_loaded(steps, root), catalogue, Launch(root, "cpu", 1, lambda event: None, lambda: False))
        run.stop()
    assert outcome.status == "passed", outcome
    assert len(stepping.spans) == steps, "every step was timed"
    return run, stepping, evaluation, bare.clock


def timed(
    call: Callable[..., Any], *, before: Callable[[], None] = lambda: None, after: Callable[[], None] = lambda: None
) -> Callable[..., Any]:
    def wrapped(*words: Any, **facts: Any) -> Any:
        before()
        result = call(*words, **facts)
        after()
        return result

    return wrapped


if __name__ == "__main__":
    main()
