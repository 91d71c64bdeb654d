"""The search for the quickstart's learning rates: candidate and control, the same grid shape, the same tokens, on dev.

    python benchmarks/quickstart_rates.py candidate --lr 0.01 0.02 0.04 --embedding-lr 0.06 0.12 0.24
    python benchmarks/quickstart_rates.py control --lr 0.03 0.06 0.12 --embedding-lr 0.1 0.2 0.4

Each point is one whole training of the shipped plan's stage by the stage's own code, scored on all of corpus:dev;
corpus:val, which the gates judge, is never opened. Results go to benchmarks/results/quickstart_rates.jsonl, and
points that stand there are not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

TOKENS = "700k tok"
RESULTS = Path(__file__).parent / "results" / "quickstart_rates.jsonl"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("who", choices=("candidate", "control"))
    arguments.add_argument("--lr", type=float, nargs="+", required=True)
    arguments.add_argument("--embedding-lr", type=float, nargs="+", required=True)
    arguments.add_argument("--weight-decay", type=float, nargs="+", default=[0.1])
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--data", type=Path, default=Path("runs/.data"))
    options = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    RESULTS.parent.mkdir(exist_ok=True)
    grid = itertools.product(options.weight_decay, options.lr, options.embedding_lr, options.seeds)
    for weight_decay, lr, embedding_lr, seed in grid:
        point = {"who": options.who, "lr": lr, "embedding_lr": embedding_lr, "weight_decay": weight_decay, "seed": seed}
        if point in [{key: line[key] for key in point} for line in _done()]:
            continue
        result = train(point, options.data, options.threads)
        with RESULTS.open("a") as stream:
            stream.write(json.dumps({**point, **result}) + "\n")
        print(json.dumps({**point, **result}), flush=True)


def _done() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def train(point: dict[str, Any], data: Path, threads: int) -> dict[str, Any]:
    """Train one point and score all of corpus:dev."""
    from bloomery.data.prepared import Prepared
    from bloomery.engine import parties
    from bloomery.engine.discover import catalogue
    from bloomery.engine.stage import StageContext
    from bloomery.evaluate.perplexity import perplexity
    from bloomery.plan.load import load
    from bloomery.stages import models, training
    from bloomery.stages.prepare import prepare_for_run

    rates = {key: point[key] for key in ("lr", "embedding_lr", "weight_decay")}
    place = "control.set.optimizer" if point["who"] == "control" else "stages.pretrain.config.optimizer"
    overrides = [f"{place}.{key}={value}" for key, value in rates.items()]
    loaded = load("harmonic/quickstart", [*overrides, f"stages.pretrain.config.tokens={TOKENS}"])
    _, (folder, _, vocab) = prepare_for_run(
        loaded.plan.data, data, lambda **facts: None, plan=loaded.raw, roots=[loaded.source.parent]
    )
    stage = loaded.plan.stage("pretrain")
    kind = catalogue.kind("pretrain")
    config = parties.settings(loaded.plan, stage, kind, point["who"], vocab=vocab)
    with tempfile.TemporaryDirectory() as scratch:
        ctx = StageContext(
            inputs={},
            data=folder,
            workdir=Path(scratch),
            checkpoint=Path(scratch) / "checkpoint",
            seed=point["seed"],
            who=point["who"],
            device="cpu",
            threads=threads,
            precision=training.native_precision("cpu"),
            vocab=vocab,
            system=loaded.plan.system,
        )
        began = time.process_time()
        result = kind.run(ctx, config)
        seconds = time.process_time() - began
        model = models.load_model(result.outputs["model"])
        dev = perplexity(model, Prepared.open(folder).part("corpus:dev"), context=128)
    return {"dev_loss": dev.loss, "dev_bits_per_byte": dev.bits_per_byte, "cpu_seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
