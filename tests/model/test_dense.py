"""The transformer against a slow, obvious one in float64, and the equalities that its parts promise."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from bloomery.errors import TrainingError
from bloomery.measure import Group
from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer, build
from bloomery.model.interface import Scale
from bloomery.model.layers import Linear

SMALL = {"layers": 2, "width": 24, "heads": 4, "kv_heads": 2, "feed_forward": 40, "rope_theta": 100.0}
VOCAB = 31


def make(seed: int = 0, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    model = Transformer(DenseConfig(**(SMALL | changes)), VOCAB, compute_dtype=torch.float64).double()
    with torch.no_grad():
        for parameter in model.parameters():  # gains of one would hide a forgotten gain
            parameter.mul_(1.0 + 0.3 * torch.randn_like(parameter))
    return model


def slow_logits(model: Transformer, tokens: Tensor) -> Tensor:
    """One sequence [t]; loops over heads and positions; no code of the package."""
    p, config = dict(model.named_parameters()), model.config
    width = config.width // config.heads
    half, shared = width // 2, config.heads // (config.kv_heads or config.heads)

    def norm(x: Tensor, gain: Tensor) -> Tensor:
        return x / torch.sqrt((x**2).mean(-1, keepdim=True) + config.norm_epsilon) * gain

    def turned(x: Tensor, position: int) -> Tensor:
        angle = torch.tensor([position * config.rope_theta ** (-j / half) for j in range(half)], dtype=torch.float64)
        a, b = x[:half], x[half:]
        return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()))

    x = p["embedding"][tokens]
    for layer in range(config.layers):
        name = f"blocks.{layer}."
        normed = norm(x, p[name + "attention_norm.weight"])
        q = normed @ p[name + "attention.query.weight"].T
        k = normed @ p[name + "attention.key.weight"].T
        v = normed @ p[name + "attention.value.weight"].T
        rows = []
        for t in range(len(tokens)):
            heads = []
            for n in range(config.heads):
                m = n // shared
                query = turned(q[t, n * width : (n + 1) * width], t)
                keys = torch.stack([turned(k[s, m * width : (m + 1) * width], s) for s in range(t + 1)])
                weights = torch.softmax(keys @ query / math.sqrt(width), dim=0)
                heads.append(weights @ v[: t + 1, m * width : (m + 1) * width])
            rows.append(torch.cat(heads))
        x = x + torch.stack(rows) @ p[name + "attention.output.weight"].T
        normed = norm(x, p[name + "feed_forward_norm.weight"])
        gate = normed @ p[name + "feed_forward.gate.weight"].T
        up = normed @ p[name + "feed_forward.up.weight"].T
        x = x + (gate * torch.sigmoid(gate) * up) @ p[name + "feed_forward.down.weight"].T
    head = p["embedding"] if config.tie_embeddings else p["head"]
    return norm(x, p["norm.weight"]) @ head.T


@pytest.mark.parametrize("tied", [True, False])
def test_values_and_gradients_are_those_of_the_slow_model(tied):
    model = make(tie_embeddings=tied)
    tokens = torch.randint(0, VOCAB, (1, 9))
    logits, expected = model(tokens).logits, slow_logits(model, tokens[0])
    torch.testing.assert_close(logits[0], expected)
    slope = torch.randn_like(expected)
    found = torch.autograd.grad(logits[0], list(model.parameters()), slope)
    wanted = torch.autograd.grad(expected, list(model.parameters()), slope)
    for (name, _), a, b in zip(model.named_parameters(), found, wanted, strict=True):
        torch.testing.assert_close(a, b, msg=name)


@pytest.mark.parametrize("window", [None, 5])
@settings(max_examples=10, deadline=None)
@given(cuts=st.sets(st.integers(1, 19), max_size=5))
def test_cached_is_uncached_however_it_is_cut(window, cuts):
    model = make(attention_window=window)
    tokens = torch.randint(0, VOCAB, (2, 20))
    state = model.initial_state(2, 20)
    parts, bounds = [], [0, *sorted(cuts), 20]
    with torch.no_grad():
        for start, stop in itertools.pairwise(bounds):
            output = model(tokens[:, start:stop], state)
            state = output.state
            parts.append(output.logits)
        torch.testing.assert_close(torch.cat(parts, 1), model(tokens).logits)


def test_packed_segments_are_separate_documents():
    """Rotary scores depend on distance alone, so a document may begin at any position."""
    model = make()
    tokens = torch.randint(0, VOCAB, (1, 15))
    segments = torch.tensor([[0] * 4 + [1] * 8 + [2] * 3])
    packed = model(tokens, segments=segments).logits
    alone = torch.cat([model(tokens[:, a:b]).logits for a, b in ((0, 4), (4, 12), (12, 15))], dim=1)
    torch.testing.assert_close(packed, alone)


def test_what_comes_later_changes_nothing_before():
    model = make()
    tokens = torch.randint(0, VOCAB, (1, 12))
    other = tokens.clone()
    other[0, 7:] = (other[0, 7:] + 1) % VOCAB
    torch.testing.assert_close(model(tokens).logits[0, :7], model(other).logits[0, :7])


def test_a_forked_cache_goes_on_from_where_it_was_cut_and_leaves_the_first_alone():
    model = make()
    tokens = torch.tensor([[3, 1, 4, 1, 5, 9]]) % VOCAB
    state = model(tokens, model.initial_state(1, 6)).state
    before = [tensor.clone() for layer in state.layers for tensor in layer]
    two = torch.tensor([[2, 6], [7, 7]]) % VOCAB
    forked = model(two, model.fork(state, batch=2, keep=4, room=2))
    whole = model(torch.cat((tokens[:, :4].expand(2, -1), two), dim=1))
    torch.testing.assert_close(forked.logits, whole.logits[:, 4:])
    assert forked.state.filled == 6
    after = [tensor for layer in state.layers for tensor in layer]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_segments_with_a_cache_are_refused():
    model = make()
    tokens = torch.zeros(1, 3, dtype=torch.int64)
    with pytest.raises(TrainingError, match="segments"):
        model(tokens, model.initial_state(1, 3), segments=tokens)


shapes = st.builds(
    lambda layers, heads, shared, half, feed, tied: DenseConfig(
        layers=layers, width=2 * half * heads * shared, heads=heads * shared, kv_heads=heads, feed_forward=feed,
        tie_embeddings=tied,
    ),
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(1, 8),
    st.none() | st.integers(1, 50), st.booleans(),
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(config=shapes, vocab=st.integers(2, 50))
def test_counted_twice_and_covered_exactly(config, vocab):
    with torch.device("meta"):
        model = Transformer(config, vocab)
    assert model.tally() == config.tally(vocab)
    assert model.tally().stored == sum(parameter.numel() for parameter in model.parameters())
    assert set(model.scales()) == {name for name, _ in model.named_parameters()}


def test_published_shape_has_its_published_size():
    """Llama 2 7B (Touvron et al. 2023): 6,738,415,616 parameters."""
    config = DenseConfig(layers=32, width=4096, heads=32, feed_forward=11008, tie_embeddings=False)
    assert config.tally(32000).stored == 6_738_415_616


def test_initial_weights_have_the_scales_that_scales_states():
    torch.manual_seed(3)
    model = Transformer(DenseConfig(layers=2, width=256, heads=4), 500)
    parameters = dict(model.named_parameters())
    for name, scale in model.scales().items():
        spread = parameters[name].square().mean().sqrt()
        torch.testing.assert_close(spread, torch.tensor(scale.initial_scale), rtol=0.02, atol=0, msg=name)
    assert model.scales()["blocks.0.feed_forward.down.weight"].initial_scale == pytest.approx(0.5 / math.sqrt(688))


def test_initialisation_follows_the_generator():
    config = DenseConfig(**SMALL)
    a, b = (Transformer(config, VOCAB, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    torch.manual_seed(5)
    c = build(config, VOCAB)
    for x, y, z in zip(a.parameters(), b.parameters(), c.parameters(), strict=True):
        assert torch.equal(x, y)
        assert torch.equal(x, z)


def test_a_factory_makes_every_linear_of_the_blocks():
    made: dict[str, float] = {}

    class Half(Linear):
        """Stores half as many bits, so that its own tally can be told apart."""

        def __init__(self, inputs, outputs, *, name, group, gain, compute_dtype):
            super().__init__(inputs, outputs, name=name, group="phase", gain=gain, compute_dtype=compute_dtype)
            made[name] = gain

        def tally(self):
            return Group(self.weight.numel() // 2, self.weight.numel() // 2, flops_per_token=1.0)

    model = Transformer(DenseConfig(**SMALL), VOCAB, make_linear=Half)
    assert len(made) == 2 * 7
    assert made["blocks.1.attention.output"] == made["blocks.0.feed_forward.down"] == 0.5
    assert made["blocks.0.attention.query"] == 1.0
    assert {name.rpartition(".")[0] for name in dict(model.named_parameters()) if "norm" not in name} == {*made, ""}
    assert model.scales()["blocks.0.feed_forward.up.weight"] == Scale(
        "phase", 1 / math.sqrt(24), decay=True, matrix=True
    )
    dense = DenseConfig(**SMALL).tally(VOCAB)
    tally = model.tally()
    assert tally.groups["attention"].stored * 2 == dense.groups["attention"].stored
    assert tally.groups["attention"].flops_per_token == 2 * 4
    assert tally.dense_equivalent == dense.stored


def test_weights_stay_float32_and_products_are_bfloat16():
    torch.manual_seed(0)
    model = Transformer(DenseConfig(**SMALL), VOCAB, compute_dtype=torch.bfloat16)
    torch.manual_seed(0)
    exact = Transformer(DenseConfig(**SMALL), VOCAB)
    tokens = torch.randint(0, VOCAB, (2, 30))
    output = model(tokens)
    assert output.logits.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    torch.testing.assert_close(output.logits.float(), exact(tokens).logits, atol=0.06, rtol=0.05)  # logits of scale one


@pytest.mark.parametrize(
    "changes", [{"width": 26}, {"kv_heads": 3}, {"width": 12}, {"layers": 0}, {"unknown": 1}, {"attention_window": 0}]
)
def test_shapes_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValidationError):
        DenseConfig(**(SMALL | changes))
