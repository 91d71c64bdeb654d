"""The parts of a block against slow formulas written out anew, in float64, values and gradients."""

import math

import pytest
import torch
from torch import Tensor

from bloomery.model import eager, layers
from bloomery.model.layers import Attention, Linear, RMSNorm, attend, positions, rotate

torch.manual_seed(0)


def slow_rotation(x: Tensor, first: int, theta: float) -> Tensor:
    """[b t n d] -> [b n t d], one number at a time."""
    batch, time, heads, width = x.shape
    out = torch.empty(batch, heads, time, width, dtype=x.dtype)
    half = width // 2
    for t in range(time):
        for j in range(half):
            angle = (first + t) * theta ** (-j / half)
            a, b = x[:, t, :, j], x[:, t, :, j + half]
            out[:, :, t, j] = a * math.cos(angle) - b * math.sin(angle)
            out[:, :, t, j + half] = b * math.cos(angle) + a * math.sin(angle)
    return out


def slow_attention(query: Tensor, key: Tensor, value: Tensor, seen: Tensor) -> Tensor:
    """One query at a time; query head i reads key head i // (n / m). seen [b q k]."""
    batch, heads, queries, _ = query.shape
    shared = heads // key.shape[1]
    rows = []
    for b in range(batch):
        for n in range(heads):
            for q in range(queries):
                keys = key[b, n // shared][seen[b, q]]
                score = keys @ query[b, n, q]
                weight = torch.exp(score - score.max())
                rows.append((weight / weight.sum()) @ value[b, n // shared][seen[b, q]])
    return torch.stack(rows).view(batch, heads, queries, -1).transpose(1, 2).flatten(2)


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("by_hand", [True, False])
def test_rotation_equals_one_number_at_a_time(first, by_hand, monkeypatch):
    monkeypatch.setattr(layers, "by_hand", lambda x: by_hand)
    x = draw(2, 6, 3, 8)
    where = positions(6, 8, 100.0, device=torch.device("cpu"), first=first, dtype=torch.float64)
    torch.testing.assert_close(rotate(x, where, 0.5), 0.5 * slow_rotation(x, first, 100.0))


def test_the_compiler_is_told_the_shapes_that_rotary_tables_have():
    for dtype in (torch.float32, torch.float64):
        torch.library.opcheck(layers._turns_at_once, (5, 3, 100.0, 7, torch.device("cpu"), dtype))


def test_rotation_makes_products_depend_on_distance_alone():
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    where = positions(40, 8, 50.0, device=torch.device("cpu"), dtype=torch.float64)
    q = rotate(query.expand(1, 40, 1, 8), where)[0, 0]
    k = rotate(key.expand(1, 40, 1, 8), where)[0, 0]
    products = q @ k.T
    for distance in (0, 3, 17):
        line = products.diagonal(-distance)
        torch.testing.assert_close(line, line[:1].expand_as(line))


@pytest.mark.parametrize("by_hand", [True, False])
def test_norm_gives_unit_mean_square_times_gain(by_hand, monkeypatch):
    monkeypatch.setattr(layers, "by_hand", lambda x: by_hand)
    norm = RMSNorm(16, 1e-5, torch.float64).double()
    torch.nn.init.normal_(norm.weight)
    x = draw(3, 5, 16)
    expected = x / torch.sqrt((x * x).sum(-1, keepdim=True) / 16 + 1e-5) * norm.weight
    torch.testing.assert_close(norm(x), expected)


def test_hand_derived_gradients_are_the_numerical_ones():
    weight = draw(8)
    assert torch.autograd.gradcheck(
        lambda x, w: eager.Normalise.apply(x, w, 1e-3, torch.float64), (draw(3, 5, 8), weight)
    )
    cosine, sine = torch.randn(2, 5, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: eager.Rotate.apply(x, cosine, sine), (draw(2, 5, 3, 4),))
    attention = (draw(2, 3, 7, 4), draw(2, 7, 4), draw(2, 7, 4))
    assert torch.autograd.gradcheck(lambda q, k, v: eager.CausalAttention.apply(q, k, v, 3), attention)


@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("block", [3, 128])
def test_attention_equals_one_query_at_a_time(by_hand, heads, kv_heads, block, monkeypatch):
    """Block-causal is full attention, whatever the block, and its gradients too."""
    monkeypatch.setattr(layers, "by_hand", lambda x: by_hand)
    monkeypatch.setattr(layers, "QUERY_BLOCK", block)
    query, key, value = draw(2, heads, 11, 4), draw(2, kv_heads, 11, 4), draw(2, kv_heads, 11, 4)
    where = positions(11, 4, 100.0, device=torch.device("cpu"))
    expected = slow_attention(query, key, value, torch.ones(11, 11).tril().bool().expand(2, 11, 11))
    out = attend(query, key, value, where)
    torch.testing.assert_close(out, expected)
    slope = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, (query, key, value), slope)
    for found, gradient in zip(torch.autograd.grad(out, (query, key, value), slope), wanted, strict=True):
        torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("window", [None, 1, 4])
@pytest.mark.parametrize("block", [3, 128])
def test_windows_and_segments_hide_what_they_should(window, block, monkeypatch):
    monkeypatch.setattr(layers, "QUERY_BLOCK", block)
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2], [0] * 10])
    query, key, value = draw(2, 2, 10, 4), draw(2, 2, 10, 4), draw(2, 2, 10, 4)
    where = positions(10, 4, 100.0, device=torch.device("cpu"), window=window, segments=segments)
    seen = torch.zeros(2, 10, 10, dtype=torch.bool)
    for b in range(2):
        for q in range(10):
            for k in range(10):
                near = window is None or q - k < window
                seen[b, q, k] = k <= q and near and bool(segments[b, q] == segments[b, k])
    torch.testing.assert_close(attend(query, key, value, where), slow_attention(query, key, value, seen))


def test_fewer_key_heads_are_repeated_key_heads():
    shared = Attention(16, 4, 2, Linear, name="a", residual=1.0, compute_dtype=torch.float64).double()
    whole = Attention(16, 4, 4, Linear, name="a", residual=1.0, compute_dtype=torch.float64).double()
    for part in (shared.query, shared.key, shared.value, shared.output):
        part.initialise()
    with torch.no_grad():
        for name in ("query", "output"):
            getattr(whole, name).weight.copy_(getattr(shared, name).weight)
        for name in ("key", "value"):
            rows = getattr(shared, name).weight.view(2, 4, 16).repeat_interleave(2, dim=0)
            getattr(whole, name).weight.copy_(rows.reshape(16, 16))
    x = torch.randn(2, 9, 16, dtype=torch.float64)
    where = positions(9, 4, 100.0, device=torch.device("cpu"), dtype=torch.float64)
    torch.testing.assert_close(shared(x, where), whole(x, where))


def test_softmax_statistics_are_float32_under_bfloat16():
    """A sum of 512 equal weights is lost in bfloat16 accumulation, not in float32."""
    value = torch.ones(1, 1, 512, 8, dtype=torch.bfloat16)
    flat = torch.zeros_like(value)
    out = attend(flat, flat, value, positions(512, 8, 100.0, device=torch.device("cpu")))
    torch.testing.assert_close(out.float(), torch.ones(1, 512, 8), atol=0.01, rtol=0)
