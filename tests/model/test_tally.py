"""Two counts of one model: the config's closed form and the walk over modules with observed operations."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.measure import Group, Tally
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer
from bloomery.model.tally import assert_equal, count, measure_flops


@st.composite
def dense_configs(draw: st.DrawFn) -> DenseConfig:
    kv_heads = draw(st.integers(1, 3))
    heads = kv_heads * draw(st.integers(1, 3))
    return DenseConfig(
        layers=draw(st.integers(1, 3)),
        width=heads * 2 * draw(st.integers(1, 5)),
        heads=heads,
        kv_heads=kv_heads,
        feed_forward=draw(st.none() | st.integers(1, 40)),
        tie_embeddings=draw(st.booleans()),
        attention_window=draw(st.none() | st.integers(1, 9)),
    )


@settings(max_examples=10, deadline=None)
@given(dense_configs(), st.integers(1, 50))
def test_closed_form_equals_the_modules(config: DenseConfig, vocab: int) -> None:
    with torch.device("meta"):
        model = Transformer(config, vocab)
    assert_equal(config.tally(vocab), count(model))
    assert_equal(config.tally(vocab), model.tally())


def test_a_small_model_by_hand() -> None:
    """Width 4, one head, feed-forward 6, vocabulary 5, one layer: 20 + 4*16 + 3*24 + 3*4 numbers."""
    model = Transformer(DenseConfig(layers=1, width=4, heads=1, feed_forward=6), 5)
    tally = count(model)
    assert {name: group.stored for name, group in tally.groups.items()} == {
        "embedding": 20, "attention": 64, "feed_forward": 72, "norm": 12,
    }  # fmt: skip
    assert tally.stored == sum(parameter.numel() for parameter in model.parameters()) == 168
    assert tally.bytes == 4 * 168
    assert tally.flops_per_token == 2 * (20 + 64 + 72)
    flops = measure_flops(model)
    assert (flops.per_token, flops.per_pass) == (312, 0)
    assert flops.forward(10) == 312 + model.config.attention_flops_per_token(10)
    assert flops.training(100, 10) == 300 * flops.forward(10)
    assert flops.training(100, 10, recompute=True) == 400 * flops.forward(10)


def test_frozen_and_half_precision_parameters_are_seen() -> None:
    model = Transformer(DenseConfig(layers=1, width=4, heads=1, feed_forward=6), 5)
    model.embedding.requires_grad_(False)
    model.blocks[0].feed_forward.down.half()
    tally = count(model)
    assert tally.total("frozen") == tally.groups["embedding"].frozen == 20
    assert tally.total("trainable") == 148
    assert tally.bytes == 4 * 168 - 2 * 24


def test_counting_leaves_the_weights_alone() -> None:
    model = Transformer(DenseConfig(layers=1, width=4, heads=1), 5)
    before = model(torch.tensor([[1, 2]])).logits
    count(model)
    assert all(parameter.device.type == "cpu" for parameter in model.parameters())
    assert torch.equal(model(torch.tensor([[1, 2]])).logits, before)


def test_a_difference_is_named() -> None:
    with pytest.raises(AssertionError, match=r"head\.stored: 3 in closed form, 0 in the modules"):
        assert_equal(Tally({"head": Group(3, 0)}), Tally({}))
    with pytest.raises(AssertionError, match=r"norm\.bytes: 12\.0 in closed form, 6\.0 in the modules"):
        assert_equal(Tally({"norm": Group(3, 3)}), Tally({"norm": Group(3, 3, bits=16)}))
    assert_equal(Tally({"norm": Group(3, 3)}, dense_equivalent=9), Tally({"norm": Group(3, 3)}))
