"""Costs of training: parameters counted twice, FLOPs and bytes against the formulas written out."""

import pytest
from tiny import settings

from bloomery.errors import BloomeryError
from bloomery.model.config import DenseConfig
from bloomery.stages import pricing
from bloomery.stages.pretrain import Pretrain

VOCAB = 257


def test_the_formulas() -> None:
    cost = Pretrain().cost(settings(), system="dense", vocab=VOCAB)
    width, inner, layers, context = 16, 48, 1, 32
    matrices = layers * (4 * width * width + 3 * width * inner)
    norms = (2 * layers + 1) * width
    stored = VOCAB * width + matrices + norms
    assert cost.tally is not None
    assert cost.tally.stored == stored
    assert cost.tokens == 1280
    forward = 2 * (matrices + VOCAB * width) + 4 * layers * width * context
    assert cost.flops == 3 * forward * 1280
    assert cost.weight_bytes == cost.gradient_bytes == 4 * stored
    assert cost.optimiser_bytes == 8 * stored
    assert cost.activation_bytes == layers * 4 * context * (34 * width + 5 * 2 * context)


def test_saving_memory_costs_what_it_costs() -> None:
    plain = Pretrain().cost(settings(), system="dense", vocab=VOCAB)
    halved = Pretrain().cost(settings(accumulate=2), system="dense", vocab=VOCAB)
    again = Pretrain().cost(settings(activation_checkpointing=True), system="dense", vocab=VOCAB)
    muon = Pretrain().cost(settings(optimizer={"name": "muon"}), system="dense", vocab=VOCAB)
    assert halved.activation_bytes == plain.activation_bytes / 2
    assert again.flops == pytest.approx(plain.flops * 4 / 3)
    assert muon.optimiser_bytes == plain.optimiser_bytes / 2
    assert halved.flops == muon.flops == plain.flops


def test_a_closed_form_that_the_modules_do_not_agree_with_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the two counts would be one."""
    tally = DenseConfig.tally
    monkeypatch.setattr(DenseConfig, "tally", lambda self, vocab: tally(self, vocab + 1))
    pricing._counted_twice.cache_clear()
    try:
        with pytest.raises((AssertionError, BloomeryError)):
            Pretrain().cost(settings(), system="dense", vocab=VOCAB)
    finally:
        pricing._counted_twice.cache_clear()


def test_a_large_model_is_priced_without_being_built() -> None:
    model = {"layers": 32, "width": 4096, "heads": 32, "kv_heads": 8, "feed_forward": 14336, "tie_embeddings": False}
    cost = Pretrain().cost(settings(model=model, tokens=10**9, context=2048), system="dense", vocab=128_256)
    assert cost.tally is not None
    assert cost.tally.stored == 8_030_261_248  # Llama 3 8B (arXiv 2407.21783) has this shape
