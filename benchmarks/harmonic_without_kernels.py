"""What a kernel of its own could save overlap attention, matching pursuit and level 3: their share of the work.

    python benchmarks/harmonic_without_kernels.py    # under a minute on one core

Attention: forward and backward of a model of two layers of width 256, bytes, as many tokens in short and in long rows,
against the same model with softmax; what is above one is the most that a kernel could take away. Pursuit: of a whole
fit of 256 x 256 at a tenth of its numbers, the products with the dictionary, which BLAS does already, the least squares
at the end and the rest. Level 3: of such a step, all sums over depth harmonics with their gradients. CPU time of one
thread, contenders take turns, the best counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from bloomery.systems.harmonic.bases import make
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.meta import MetaHarmonicLinear
from bloomery.systems.harmonic.model import build
from bloomery.systems.harmonic.pursuit import orthonormal, pursue
from bloomery.train.device import DTYPES, choose_dtype, reproducibly
from bloomery.train.objectives import summed_loss

RESULTS = Path(__file__).parent / "results" / "harmonic_without_kernels.json"
VOCAB, ROUNDS = 257, 5
FORMS = ("softmax", "overlap", "overlap_unnormalised", "overlap_widths")


def best(contenders: Mapping[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """CPU seconds of each; the first round is to warm up."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, work in contenders.items():
            start = time.process_time()
            work()
            if number:
                times[name].append(time.process_time() - start)
    return {name: min(found) for name, found in times.items()}


def step(batch: int, context: int, **shape: object) -> Callable[[], object]:
    """Forward and backward, in the precision of `auto`."""
    tokens = torch.randint(0, VOCAB, (batch, context + 1), generator=torch.Generator().manual_seed(0))
    config = HarmonicConfig.model_validate({"layers": 2, "width": 256, "heads": 4, **shape})
    dtype = DTYPES[choose_dtype("auto", "cpu").value]
    model = build(config, VOCAB, compute_dtype=dtype, generator=torch.Generator().manual_seed(0))

    def work() -> None:
        objective, _ = summed_loss(model, model(tokens[:, :-1]), tokens[:, 1:], {})
        objective.backward()
        model.zero_grad(set_to_none=True)

    return work


def attention(batch: int, context: int) -> dict[str, float]:
    """Times as long as with softmax."""
    seconds = best({form: step(batch, context, compression=10, attention=form) for form in FORMS})
    return {form: round(seconds[form] / seconds["softmax"], 3) for form in FORMS[1:]}


def pursuit() -> dict[str, float]:
    """Shares of a fit."""
    layer = make("row_gauss", 256, 256, 10)
    count = layer.get_parameter("amplitude").shape[1]
    weight = torch.randn(256, 256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    places = layer.dictionary()  # pyright: ignore[reportCallIssue]
    dictionary = layer.generator.atom(*places.values())[:, None]  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    units = orthonormal(dictionary).flatten(0, 1)
    basis = torch.randn(256, 256, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    seconds = best(
        {
            "whole": lambda: pursue(weight, dictionary, count),
            "products": lambda: [(weight @ units.t()).square().argmax(1) for _ in range(count)],
            "least_squares": lambda: torch.linalg.lstsq(basis, weight[:, :, None], driver="gelsd"),
        }
    )
    whole = seconds.pop("whole")
    return {"seconds": round(whole, 3)} | {name: round(found / whole, 3) for name, found in seconds.items()}


def level_3() -> dict[str, float]:
    """The share of all linears' sums over depth harmonics, with their gradients, in a step."""
    shape = {"layers": 2, "width": 256, "heads": 4, "level": 3, "meta_components": 24, "depth_harmonics": 2}
    model = build(HarmonicConfig.model_validate(shape), VOCAB, generator=torch.Generator().manual_seed(0))
    linears = [one for one in model.modules() if isinstance(one, MetaHarmonicLinear)]

    def sums() -> None:
        torch.stack([linear.mix() for linear in linears]).sum().backward()

    seconds = best({"step": step(6, 96, **shape), "sums": sums})
    found = {"linears": len(linears), "step_milliseconds": round(1e3 * seconds["step"], 1)}
    return found | {"sums": round(seconds["sums"] / seconds["step"], 4)}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    wanted = parser.parse_args(arguments)
    load_before = os.getloadavg()[0]
    with reproducibly(1, "cpu"):
        found = {
            "attention": {f"{batch} x {context}": attention(batch, context) for batch, context in ((6, 96), (1, 576))},
            "pursuit": pursuit(),
            "level_3": level_3(),
        }
    facts = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"), "torch": torch.__version__,
        "python": platform.python_version(), "precision": choose_dtype("auto", "cpu").value,
        "load": [load_before, os.getloadavg()[0]], **found,
    }  # fmt: skip
    print(json.dumps(found, indent=1))
    wanted.out.parent.mkdir(parents=True, exist_ok=True)
    wanted.out.write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
