"""What converting a dense model costs: text that passes through it, sums of outer products, and a fit of each linear.

Operations of a fit are those of its largest steps, in closed form: eigenvalues (9 i^3), singular values
(14 o i min(o, i); orders of magnitude, as in Golub and Van Loan 2013, 8.6), products with a dictionary, and Adam.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from bloomery.engine.stage import Cost
from bloomery.stages.pricing import MASTER_BYTES
from bloomery.stages.settings import architecture
from bloomery.systems.harmonic import bases, sizes
from bloomery.systems.harmonic.bases.rows import RowLinear
from bloomery.systems.harmonic.config import HarmonicConfig

if TYPE_CHECKING:
    from bloomery.systems.harmonic.from_dense_stage import Settings

SUM_BYTES = 8
PER_ATOM = 12.0
"""Operations on an entry of a matrix when an atom is made and multiplied in; backward twice as many."""


def conversion_cost(config: Settings, before: Mapping[str, Any], after: Mapping[str, Any], vocab: int) -> Cost:
    """Without recovery. before, after: the `model` settings that come in and go out."""
    reading, dense, made = config.covariance.reading, architecture(before), architecture(after)
    assert isinstance(made, HarmonicConfig)
    batch, tokens = reading.batch * reading.context, reading.tokens
    squares = made.layers * (3 * made.width**2 + made.feed_forward_width**2)
    passing = dense.tally(vocab).flops_per_token + dense.attention_flops_per_token(reading.context)
    fits = sum(_fit(config, i, o) for name, i, o in made.linear_shapes() if made.generates(name))
    stored = [shape.tally(vocab).stored for shape in (dense, made)]
    return Cost(
        tokens=tokens,
        flops=tokens * (passing + 2.0 * squares) + made.layers * fits,
        weight_bytes=MASTER_BYTES * sum(stored),
        activation_bytes=SUM_BYTES * squares + batch * (34 * dense.width + 5 * dense.heads * reading.context),
        disk_bytes=2 * MASTER_BYTES * stored[1],
        tally=made.tally(vocab),
    )


def then(first: Cost, second: Cost) -> Cost:
    """One after the other: totals add up, and the larger peak counts."""
    larger = max(first, second, key=lambda cost: cost.memory_bytes)
    return replace(
        larger, tokens=first.tokens + second.tokens, flops=first.flops + second.flops,
        disk_bytes=first.disk_bytes + second.disk_bytes, optimiser_bytes=second.optimiser_bytes, tally=second.tally,
    )  # fmt: skip


def _fit(config: Settings, inputs: int, outputs: int) -> float:
    entries = float(outputs * inputs)
    root = 9.0 * inputs**3 if config.metric == "inputs" else 0.0
    with torch.device("meta"):
        linear = bases.make(config.basis, inputs, outputs, config.compression)
        atoms = sizes.size(config.basis, inputs, outputs, config.compression).components
        made, fit = 0.0, 14.0 * entries * min(inputs, outputs)
        if isinstance(linear, RowLinear):
            vectors = 2 if "phase" in linear.scales_of_places else 1
            entered = vectors * next(iter(linear.dictionary().values())).numel()
            fit, made = atoms * 2.0 * entries * entered, PER_ATOM * atoms * entries
    adam = config.steps * 3.0 * (2.0 * entries * inputs + made)
    return root + (fit if config.start == "fit" else 0.0) + adam
