"""How fast a harmonic model of rows of atoms trains, in C and in torch.

    python benchmarks/harmonic_rows.py               # about five minutes on one core

The shape of the plan harmonic/bases: two layers of width 256, bytes, batch 6 x 96, compression 10, one thread, one
process. A step is `bloomery.train.loop.train_step`, the code under `fit()`: forward, backward, clip, AdamW, in the
precision that `auto` chooses and in float32. First both paths' loss and gradients are compared; then the contenders
take turns, one step each, and the best CPU time counts, as everywhere in docs/performance.md (wall time on a shared
machine is useless); beside it, how the ratio of neighbouring steps is spread. BLOOMERY_NATIVE is what switches between
the paths. The sine basis, which both paths share, stands beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.kernels import atoms
from bloomery.systems.harmonic.model import build
from bloomery.train.device import DTYPES, choose_dtype, reproducibly
from bloomery.train.loop import FitConfig, train_step
from bloomery.train.objectives import summed_loss
from bloomery.train.optim import Optimisers, OptimizerConfig
from bloomery.train.parallel import World

RESULTS = Path(__file__).parent / "results" / "harmonic_rows.json"
VOCAB, BATCH, CONTEXT = 257, 6, 96
GOALS = {"row_gauss narrow": 10.0, "row_gabor narrow": 10.0, "row_cos": 4.0}
PREDICTED = {"row_gauss narrow": 15.0, "row_gabor narrow": 15.0, "row_cos": 7.0, "row_gauss wide": 12.0,
             "row_gabor wide": 7.0}  # fmt: skip
"""Times faster in the precision of `auto`: from the kernels' own times, before a step was timed."""
ALLOWED = {"float32": 1e-4, "bfloat16": 3e-2}
"""Relative difference of all gradients together: float32 sums, and weights that are rounded to another bfloat16."""


@dataclass(frozen=True, slots=True)
class RandomBatch:
    tokens: Tensor
    targets: Tensor
    mask: None = None
    segments: None = None


class Contender:
    """One model, and with it the path that makes its matrices."""

    def __init__(self, basis: str, dtype: str, path: str) -> None:
        self.basis, self.dtype, self.path = basis, dtype, path
        name, _, width = basis.partition(" ")
        shape = {"atom_width": width} if width else {}
        config = HarmonicConfig.model_validate(
            {"layers": 2, "width": 256, "heads": 4, "basis": name, "compression": 10, **shape}
        )
        self.choose()
        self.model = build(config, VOCAB, compute_dtype=DTYPES[dtype], generator=torch.Generator().manual_seed(0))
        self.config = FitConfig(1, optimizer=OptimizerConfig(lr=0.03, weight_decay=0.0))
        self.optimisers = Optimisers(self.model, self.config.optimizer)

    @property
    def name(self) -> str:
        return f"{self.basis}, {self.dtype}, {self.path}"

    def choose(self) -> None:
        os.environ["BLOOMERY_NATIVE"] = "0" if self.path == "torch" else "1"

    def gradients(self, batch: RandomBatch) -> tuple[float, Tensor]:
        """(nats per token, all gradients in a row)."""
        self.choose()
        objective, nats = summed_loss(self.model, self.model(batch.tokens), batch.targets, {})
        (objective / batch.targets.numel()).backward()
        found = torch.cat([p.grad.flatten() for p in self.model.parameters() if p.grad is not None]).double()
        self.model.zero_grad(set_to_none=True)
        return float(nats) / batch.targets.numel(), found

    def step(self, batch: RandomBatch) -> float:
        """CPU seconds."""
        self.choose()
        start = time.process_time()
        train_step(self.model, self.model, batch, self.optimisers, self.config, 1.0, World(), 1)
        return time.process_time() - start


def compared(here: Contender, there: Contender, batch: RandomBatch) -> dict[str, float]:
    """Of the same weights: the second's are copied from the first."""
    there.model.load_state_dict(here.model.state_dict())
    (loss, mine), (other_loss, others) = here.gradients(batch), there.gradients(batch)
    found = {"loss": loss, "loss_difference": abs(loss - other_loss),
             "gradient_relative_error": float((mine - others).norm() / others.norm())}  # fmt: skip
    if not found["gradient_relative_error"] <= ALLOWED[here.dtype]:
        raise SystemExit(f"{here.basis} is not the same in C and in torch, nothing is timed: {found}")
    return found


def measure(bases: Sequence[str], dtypes: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, VOCAB, (BATCH, CONTEXT + 1), generator=generator)
    batch = RandomBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
    rows = []
    for dtype in dtypes:
        sine = Contender("sine", dtype, "C")
        pairs = [(Contender(basis, dtype, "C"), Contender(basis, dtype, "torch")) for basis in bases]
        same = [compared(*pair, batch) for pair in pairs]
        contenders = [sine, *(one for pair in pairs for one in pair)]
        times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
        for number in range(rounds + 1):
            for contender in contenders:
                seconds = contender.step(batch)
                if number:  # the first round is to warm up
                    times[contender.name].append(seconds)
        rows.append(row(sine, times, None, {}))
        rows += [row(one, times, other, found) for (one, other), found in zip(pairs, same, strict=True)]
    return rows


def row(
    contender: Contender, times: dict[str, list[float]], other: Contender | None, same: dict[str, float]
) -> dict[str, Any]:
    speed = BATCH * CONTEXT / min(times[contender.name])
    found: dict[str, Any] = {"basis": contender.basis, "dtype": contender.dtype, "tokens_per_cpu_second": round(speed)}
    line = f"{contender.basis:18} {contender.dtype:9} {speed:8,.0f} tokens/s"
    if other is not None:
        by_torch = [theirs / mine for mine, theirs in zip(times[contender.name], times[other.name], strict=True)]
        ratio = min(times[other.name]) / min(times[contender.name])
        found |= {
            "in_torch": round(BATCH * CONTEXT / min(times[other.name])), "times_faster": round(ratio, 2),
            "median": round(statistics.median(by_torch), 2), "lowest": round(min(by_torch), 2),
            "highest": round(max(by_torch), 2), "goal": GOALS.get(contender.basis),
            "predicted": PREDICTED.get(contender.basis), **same,
        }  # fmt: skip
        spread = f"{found['lowest']} to {found['highest']}, median {found['median']}"
        line += f"  torch {found['in_torch']:7,}  {ratio:5.1f} times ({spread})"
    print(line)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bases", nargs="+", default=list(PREDICTED))
    parser.add_argument("--precisions", nargs="+", default=["auto", "float32"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args(arguments)
    if atoms.library() is None:
        raise SystemExit(f"no C library, nothing to compare: {native.refusals['atoms.c']}")
    load_before, before = os.getloadavg()[0], os.environ.get("BLOOMERY_NATIVE")
    auto = choose_dtype("auto", "cpu").value
    precisions = list(dict.fromkeys(auto if name == "auto" else name for name in wanted.precisions))
    try:
        with reproducibly(1, "cpu"):
            found = measure(wanted.bases, precisions, wanted.rounds)
    finally:
        os.environ.pop("BLOOMERY_NATIVE")
        if before is not None:
            os.environ["BLOOMERY_NATIVE"] = before
    facts = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "processor": processor(), "torch": torch.__version__,
        "python": platform.python_version(), "precision_auto": auto, "rounds": wanted.rounds,
        "load": [load_before, os.getloadavg()[0]], "batch": BATCH, "context": CONTEXT, "rows": found,
    }  # fmt: skip
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    wanted.out.write_text(json.dumps(facts, indent=1) + "\n")


def processor() -> list[str]:
    return [line.partition(":")[2].strip() for line in native.processor() if line.startswith("model name")]


if __name__ == "__main__":
    main()
