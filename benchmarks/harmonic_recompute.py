"""What memory it saves that generated weights are made again in backward, by `budget`'s count and by measurement.

One step (forward, loss, backward) of a harmonic model, each way in a fresh process of one thread:

    again      as the layers do: forward keeps factors and inputs, backward makes each matrix again
    kept       the same, but each matrix is kept from forward to backward: what `bloomery budget` counts as kept
    autograd   torch differentiates the formula of the matrix, and keeps whatever it likes

A step before it makes the gradients' buffers; then the high-water mark of the process (VmHWM, Linux) is reset. Losses
and gradients of the three must agree, or nothing is written.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "harmonic_recompute.json"
WAYS = ("again", "kept", "autograd")
VOCAB, BATCH, CONTEXT = 256, 2, 32
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""What is freed goes back to the system at once: the mark shows tensors and not the allocator's reserve."""


def child(way: str, settings: dict[str, Any]) -> dict[str, float]:
    """Bytes above what was held before the step, at its highest; and what it computed."""
    import torch
    import torch.nn.functional as F

    from bloomery.systems.harmonic import layers
    from bloomery.systems.harmonic.config import HarmonicConfig
    from bloomery.systems.harmonic.model import build

    class KeptProduct(layers.RecomputedProduct):
        @staticmethod
        def forward(ctx: Any, inputs: Any, generator: Any, *factors: Any) -> Any:
            ctx.save_for_backward(inputs, *factors)
            ctx.generator, ctx.weight = generator, generator.generate(*factors).to(inputs.dtype)
            return F.linear(inputs, ctx.weight)

    def by_autograd(self: Any, x: Any) -> Any:
        return F.linear(x, self.generator.generate(*self.factors()).to(x.dtype))

    if way == "kept":
        layers.RecomputedProduct = KeptProduct  # type: ignore[misc]
    elif way == "autograd":
        layers.Generated.forward = by_autograd  # type: ignore[method-assign]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = build(HarmonicConfig.model_validate(settings), VOCAB, generator=torch.Generator().manual_seed(0)).train()
    tokens = torch.randint(0, VOCAB, (BATCH, CONTEXT + 1))

    def step() -> float:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        loss = F.cross_entropy(model(tokens[:, :-1]).logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        loss.backward()
        return float(loss.detach())

    step()
    Path("/proc/self/clear_refs").write_text("5")
    before, loss = status("VmRSS"), step()
    squares = sum(float(p.grad.double().square().sum()) for p in model.parameters() if p.grad is not None)
    return {"step_bytes": status("VmHWM") - before, "loss": loss, "gradient_norm": squares**0.5}


def status(name: str) -> int:
    """Bytes of a line of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def measured(way: str, settings: dict[str, Any]) -> dict[str, float]:
    said = subprocess.run(
        [sys.executable, __file__, "--child", way, "--settings", json.dumps(settings)],
        env=os.environ | ENVIRONMENT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(said.stdout)


def compared(settings: dict[str, Any]) -> dict[str, Any]:
    """The three ways, next to what the budget says of these settings. Raises SystemExit where they disagree."""
    from bloomery.stages.pricing import training_cost
    from bloomery.stages.settings import Training

    cost = training_cost(
        Training(tokens=BATCH * CONTEXT, batch=BATCH, context=CONTEXT), {"system": "harmonic", **settings}, VOCAB
    )
    found = {way: measured(way, settings) for way in WAYS}
    for way in WAYS[1:]:
        for what in ("loss", "gradient_norm"):
            if abs(found[way][what] / found["again"][what] - 1) > 1e-4:
                raise SystemExit(f"{way}: {what} {found[way][what]}, not {found['again'][what]}: nothing is written")
    steps = {way: found[way]["step_bytes"] for way in WAYS}
    predicted = cost.generated_bytes - cost.largest_generated_bytes
    return {
        "settings": settings, "kept_bytes": cost.generated_bytes, "largest_bytes": cost.largest_generated_bytes,
        "predicted_saving": predicted, "step_bytes": steps, "saved_bytes": steps["kept"] - steps["again"],
        "saved_of_predicted": round((steps["kept"] - steps["again"]) / predicted, 3),
        "saved_against_autograd": steps["autograd"] - steps["again"],
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--bases", nargs="+", default=["sine", "kron", "row_gauss"])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    wanted = parser.parse_args(arguments)
    if wanted.child:
        print(json.dumps(child(wanted.child, json.loads(wanted.settings))))
        return
    shape = {"layers": wanted.layers, "width": wanted.width, "heads": 8, "compression": 10}
    table = [compared({**shape, "basis": basis}) for basis in wanted.bases]
    for row in table:
        mib = {name: round(row[name] / 2**20, 1) for name in ("kept_bytes", "predicted_saving", "saved_bytes")}
        steps = {way: round(value / 2**20, 1) for way, value in row["step_bytes"].items()}
        print(f"{row['settings']['basis']:<12} MiB: {mib}, at the highest of a step: {steps}")
    import torch

    facts = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "torch": torch.__version__,
        "python": platform.python_version(), "batch": BATCH, "context": CONTEXT, "bases": table,
    }  # fmt: skip
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    wanted.out.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written to {wanted.out}")


if __name__ == "__main__":
    main()
