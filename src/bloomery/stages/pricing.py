"""What training a model costs, from the real modules on the meta device: nothing is allocated, nothing is trained.

Training FLOPs are three times the forward ones (backward counts twice); attention scores are counted without
causality. Activations follow Korthikanti et al. 2022 (arXiv 2205.05198), equation 2: s b h (34 + 5 a s / h) bytes a
layer in 16 bits; with checkpointing two bytes per feature a layer and one layer whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from bloomery.engine.stage import Cost
from bloomery.measure import Tally
from bloomery.model.tally import assert_equal, count
from bloomery.stages import counted, models
from bloomery.stages.settings import Training, architecture

MASTER_BYTES = 4
"""Weights, gradients and each of AdamW's two moments are float32."""


@cache
def _counted_twice(model: str, vocab: int) -> Tally:
    """The closed form of a model (its settings, as JSON), which its modules must agree with: counted once a machine."""
    settings: dict[str, Any] = json.loads(model)
    tally = architecture(settings).tally(vocab)
    agreed = counted.place(model, settings["system"], vocab, tally)
    if agreed is None or not agreed.exists():
        with torch.device("meta"):
            network = models.build(settings, vocab, precision="fp32")
        assert_equal(tally, count(network))
        counted.remember(agreed)
    return tally


def training_cost(config: Training, model: Mapping[str, Any], vocab: int) -> Cost:
    """Cost of one cell: `config.steps` steps of a model of these settings. Counts its parameters twice."""
    shape = architecture(model)
    tally = _counted_twice(json.dumps(model, sort_keys=True), vocab)
    tokens = config.steps * config.batch * config.context
    forward = tally.flops_per_token + shape.attention_flops_per_token(config.context)
    micro_batch_tokens = config.batch * config.context // config.accumulate
    whole_layer = micro_batch_tokens * (34 * shape.width + 5 * shape.heads * config.context)
    activations = shape.layers * whole_layer
    if config.activation_checkpointing:
        activations = 2 * micro_batch_tokens * shape.width * shape.layers + whole_layer
    moments = 1 if config.optimizer.name == "muon" else 2
    generated, largest = shape.made_in_a_pass()
    trained = tally.total("trainable")
    return Cost(
        tokens=tokens,
        flops=(4.0 if config.activation_checkpointing else 3.0) * forward * tokens,
        weight_bytes=MASTER_BYTES * tally.stored,
        gradient_bytes=MASTER_BYTES * trained,
        optimiser_bytes=moments * MASTER_BYTES * trained,
        activation_bytes=activations,
        disk_bytes=MASTER_BYTES * (tally.stored + 3 * (1 + moments) * trained),
        generated_bytes=MASTER_BYTES * generated,
        largest_generated_bytes=MASTER_BYTES * largest,
        tally=tally,
    )
