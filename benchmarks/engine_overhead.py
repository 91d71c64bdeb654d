"""What the engine costs: a whole `bloomery run` of one stage against a bare loop over the same steps.

    python benchmarks/engine_overhead.py --seconds 120

Both train the same dense model on the same batches with the same step function, in turn in one process on
one thread. The engine's time is everything between plan and verdict: fingerprints, locks, events, checkpoints, hashes,
sealing, registration, judging; data is prepared beforehand and nothing is evaluated, since that is work asked for.

Prediction, written before the first run: under 1 %. A checkpoint is allowed 1 %; events are a few hundred lines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="about how long the bare loop runs")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        speed = bare(root, 100)[1]
        steps = int(options.seconds * speed)
        bare_cpu, _ = bare(root, steps)
        engine_cpu, evaluation_cpu = engine(root, steps)
    overhead = (engine_cpu - evaluation_cpu - bare_cpu) / bare_cpu
    row = {
        "steps": steps,
        "bare_cpu_seconds": bare_cpu,
        "engine_cpu_seconds": engine_cpu - evaluation_cpu,
        "evaluation_cpu_seconds": evaluation_cpu,
        "overhead": overhead,
        "prediction": "under 1 %",
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
    }
    for name, value in row.items():
        print(f"{name:24} {value}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(row, indent=1) + "\n")


def _loaded(steps: int, folder: Path):
    from bloomery.plan.load import load_text

    return load_text(PLAN.format(tokens=steps * 1024), folder / "overhead.yaml")


def bare(root: Path, steps: int) -> tuple[float, float]:
    """(CPU seconds of the steps alone, steps per CPU second)."""
    from bloomery.data.mix import Batches
    from bloomery.data.prepared import Prepared
    from bloomery.engine.discover import catalogue
    from bloomery.stages import models
    from bloomery.stages.prepare import prepare_for_run
    from bloomery.train.compiling import compiled_forward
    from bloomery.train.loop import FitConfig, train_step
    from bloomery.train.optim import Optimisers, OptimizerConfig
    from bloomery.train.parallel import world
    from bloomery.train.schedule import ScheduleConfig, factor
    from bloomery.train.state import reseed

    loaded = _loaded(steps, root)
    _, (folder, _, vocab) = prepare_for_run(loaded.plan.data, root / ".data", lambda **_: None, plan=loaded.raw)
    stage = loaded.plan.stages[0]
    settings = catalogue.kind("pretrain").config_model().model_validate(dict(stage.config))
    model = models.build(settings.model, vocab, precision="fp32", seed=0)
    batches = Batches([(Prepared.open(folder).part("corpus"), 1.0)], batch=8, context=128, seed=0)
    config = FitConfig(steps=steps, optimizer=OptimizerConfig(lr=0.02), schedule=ScheduleConfig())
    optimisers, forward = Optimisers(model, config.optimizer), compiled_forward(model, False)
    began = time.process_time()
    for step in range(steps):
        reseed(0, step)
        rate = factor(config.schedule, step, steps)
        train_step(model, forward, batches.batch_at(step), optimisers, config, rate, world(), step + 1)
    spent = time.process_time() - began
    return spent, steps / spent


def engine(root: Path, steps: int) -> tuple[float, float]:
    """(CPU seconds of a whole run, of which evaluation)."""
    from bloomery.engine.discover import catalogue
    from bloomery.engine.launch import Launch, launch
    from bloomery.evaluate import perplexity

    spent_evaluating = 0.0
    score = perplexity.perplexity

    def timed(*words, **facts):
        nonlocal spent_evaluating
        began = time.process_time()
        result = score(*words, **facts)
        spent_evaluating += time.process_time() - began
        return result

    perplexity.perplexity = timed
    try:
        began = time.process_time()
        outcome = launch(_loaded(steps, root), catalogue, Launch(root, "cpu", 1, lambda event: None, lambda: False))
        spent = time.process_time() - began
    finally:
        perplexity.perplexity = score
    assert outcome.status == "passed", outcome
    return spent, spent_evaluating


if __name__ == "__main__":
    main()
