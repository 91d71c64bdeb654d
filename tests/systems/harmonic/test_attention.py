"""Overlap attention against Gaussian integrals written out, one pair of tokens at a time, in float64."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.evaluate.decoding import Batched, decoding
from bloomery.evaluate.sample import generate
from bloomery.evaluate.scoring import Request, score_all
from bloomery.model.dense import Transformer
from bloomery.model.layers import Positions, positions
from bloomery.model.select import prove_cover
from bloomery.model.tally import assert_equal, count, measure_flops
from bloomery.systems.harmonic.attention import Overlap, TokenWidths, Unnormalised, distances
from bloomery.systems.harmonic.config import CHUNK, HarmonicConfig
from bloomery.systems.harmonic.linear_attention import (
    FLOOR,
    LARGEST,
    LinearOverlap,
    chunked,
    parallel,
    random_features,
)
from bloomery.systems.harmonic.model import build
from support.scoring import VOCAB, requests, score_one

FORMS = ("overlap", "overlap_widths", "overlap_unnormalised", "overlap_linear")
CPU = torch.device("cpu")
Weigh = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def log_overlap(q: Tensor, k: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Of N(q, a) and N(k, b): a product over features of one-dimensional overlaps."""
    each = -0.5 * torch.log(2 * math.pi * (a + b)) - (q - k) ** 2 / (2 * (a + b))
    return each.sum()


def draw(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def test_overlap_of_two_gaussians_is_their_integral() -> None:
    x = torch.linspace(-30, 30, 60001, dtype=torch.float64)
    for q, k, a, b in ((0.3, -1.2, 0.5, 2.0), (4.0, 0.0, 1.0, 1.0), (-0.1, 0.1, 0.2, 0.05)):
        product = torch.exp(-((x - q) ** 2) / (2 * a) - (x - k) ** 2 / (2 * b)) / (2 * math.pi * math.sqrt(a * b))
        integral = torch.trapezoid(product, x)
        closed = log_overlap(*(torch.tensor([value], dtype=torch.float64) for value in (q, k, a, b))).exp()
        torch.testing.assert_close(closed, integral, rtol=1e-9, atol=0)


def slow(
    query: Tensor, key: Tensor, value: Tensor, a: Tensor, b: Tensor, seen: Callable[[int, int, int], bool],
    sink: float | None = None,
) -> Tensor:  # fmt: skip
    """One query at a time: overlaps of what it sees, divided by their sum (and `sink`, relative to distance zero)."""
    batch, heads, time, width = query.shape
    shared = heads // key.shape[1]
    out = torch.zeros(batch, time, heads, width, dtype=torch.float64)
    rows = []
    for row, t, head in itertools.product(range(batch), range(time), range(heads)):
        m = head // shared
        keys = [s for s in range(time) if seen(row, t, s)]
        logs = [log_overlap(query[row, head, t], key[row, m, s], a[row, head, t], b[row, m, s]) for s in keys]
        if sink is not None:
            zero = log_overlap(key[row, m, 0], key[row, m, 0], a[row, head, t], b[row, m, 0])
            logs = [each - zero for each in logs]
        largest = torch.stack(logs).max().detach()
        weights = [torch.exp(each - largest) for each in logs]
        total = torch.stack(weights).sum() + (0 if sink is None else sink * torch.exp(-largest))
        rows.append(torch.stack([w * value[row, m, s] for w, s in zip(weights, keys, strict=True)]).sum(0) / total)
    out = torch.stack(rows).view(batch, time, heads, width)
    return out.flatten(2)


def where_and_seen(kind: str, time: int) -> tuple[Positions, Callable[[int, int, int], bool]]:
    numbers = torch.tensor([[0] * 4 + [1] * (time - 4), [0] * time])
    window, segments = (3 if kind == "window" else None), (numbers if kind == "segments" else None)
    where = positions(time, 4, 100.0, device=CPU, window=window, segments=segments, dtype=torch.float64)

    def seen(row: int, t: int, s: int) -> bool:
        near = window is None or t - s < window
        return s <= t and near and (segments is None or bool(numbers[row, t] == numbers[row, s]))

    return where, seen


def check(found: Tensor, wanted: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)
    slope = torch.randn_like(wanted)
    gradients = [torch.autograd.grad(each, inputs, slope, retain_graph=True) for each in (found, wanted)]
    for here, there in zip(*gradients, strict=True):
        torch.testing.assert_close(here, there, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", ["all", "window", "segments"])
@pytest.mark.parametrize("by_hand", [True, False])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_shared_width(kind: str, by_hand: bool, qk_norm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.model.layers.by_hand", lambda x: by_hand)
    torch.manual_seed(0)
    query, key, value, h = draw(2, 4, 7, 4), draw(2, 2, 7, 4), draw(2, 2, 7, 4), 4
    where, seen = where_and_seen(kind, 7)
    mixing = Overlap(16, 4, 2, compute_dtype=torch.float64, qk_norm=qk_norm)
    found = mixing(value, query / math.sqrt(h), key, value, where, None)
    q, k = (math.sqrt(h) * x / x.norm(dim=-1, keepdim=True) for x in (query, key)) if qk_norm else (query, key)
    half = torch.full((2, 4, 7), math.sqrt(h) / 2, dtype=torch.float64)
    check(found, slow(q, k, value, half, half[:, :2], seen), [query, key, value])


@pytest.mark.parametrize("kind", ["all", "window", "segments"])
def test_unnormalised(kind: str) -> None:
    torch.manual_seed(0)
    query, key, value, h = draw(2, 4, 7, 4), draw(2, 2, 7, 4), draw(2, 2, 7, 4), 4
    where, seen = where_and_seen(kind, 7)
    mixing = Unnormalised(16, 4, 2, compute_dtype=torch.float64)
    half = torch.full((2, 4, 7), math.sqrt(h) / 2, dtype=torch.float64)
    expected = slow(query, key, value, half, half[:, :2], seen, sink=math.exp(-math.sqrt(h)))
    check(mixing(value, query / math.sqrt(h), key, value, where, None), expected, [query, key, value])


def test_a_query_that_overlaps_with_nothing_reads_nothing() -> None:
    key, value = torch.randn(1, 1, 5, 4), torch.randn(1, 1, 5, 4)
    far = torch.full((1, 1, 5, 4), 30.0)
    where = positions(5, 4, 100.0, device=CPU)
    assert Unnormalised(4, 1, 1, compute_dtype=torch.float32)(value, far, key, value, where, None).abs().max() < 1e-6
    assert Overlap(4, 1, 1, compute_dtype=torch.float32)(value, far, key, value, where, None).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["all", "window", "segments"])
def test_token_widths(kind: str) -> None:
    torch.manual_seed(0)
    x, query, key, value, h = draw(2, 7, 16), draw(2, 4, 7, 4), draw(2, 2, 7, 4), draw(2, 2, 7, 4), 4
    where, seen = where_and_seen(kind, 7)
    mixing = TokenWidths(16, 4, 2, compute_dtype=torch.float64).double()
    for linear in (mixing.query_width, mixing.key_width):
        nn.init.normal_(linear.weight, std=0.3)
    a, b = (
        (math.sqrt(h) / 2 * torch.exp(2 * torch.tanh(x @ linear.weight.T / 2))).transpose(1, 2)
        for linear in (mixing.query_width, mixing.key_width)
    )
    assert a.max() > 1.5 * a.min()
    found = mixing(x, query / math.sqrt(h), key, value, where, None)
    inputs = [x, query, key, value, *mixing.parameters()]
    check(found, slow(query, key, value, a, b, seen), inputs)


def test_distances_of_bfloat16_are_those_of_its_numbers() -> None:
    """The difference of large numbers: with an inner product in bfloat16 equal tokens are far apart, or below zero."""
    query, key = ((3 * torch.randn(2, heads, 16, 64)).bfloat16() for heads in (4, 2))
    key[:, :, :4] = query[:, ::2, :4]
    found = distances(query, key)
    wanted = (query.double()[:, :, :, None] - key.double().repeat_interleave(2, 1)[:, :, None]).square().sum(-1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=2e-3)


def test_equal_widths_are_the_shared_width() -> None:
    query, key, value, x = draw(1, 2, 6, 8), draw(1, 2, 6, 8), draw(1, 2, 6, 8), draw(1, 6, 16)
    where = positions(6, 8, 100.0, device=CPU, dtype=torch.float64)
    widths = TokenWidths(16, 2, 2, compute_dtype=torch.float64).double()
    for linear in (widths.query_width, widths.key_width):
        nn.init.zeros_(linear.weight)
    shared = Overlap(16, 2, 2, compute_dtype=torch.float64)
    torch.testing.assert_close(
        widths(x, query, key, value, where, None), shared(x, query, key, value, where, None), rtol=1e-9, atol=1e-11
    )


def test_with_keys_of_one_length_it_is_cosine_attention() -> None:
    query, key, value = draw(2, 2, 9, 4), draw(2, 2, 9, 4), draw(2, 2, 9, 4)
    where = positions(9, 4, 100.0, device=CPU, dtype=torch.float64)
    found = Overlap(8, 2, 2, compute_dtype=torch.float64, qk_norm=True)(value, query, key, value, where, None)
    plain = Overlap(8, 2, 2, compute_dtype=torch.float64, qk_norm=True, penalty=False)
    cosine = nn.functional.cosine_similarity(query[:, :, :, None], key[:, :, None], dim=-1)
    hidden = torch.ones(9, 9, dtype=torch.bool).triu(1)
    weights = torch.softmax((math.sqrt(4) * cosine).masked_fill(hidden, -math.inf), dim=-1)
    expected = (weights @ value).transpose(1, 2).flatten(2)
    check(found, expected, [query, key, value])
    torch.testing.assert_close(plain(value, query, key, value, where, None), expected)


def test_random_features_are_orthogonal_draws_that_a_name_decides() -> None:
    rows = random_features(20, 8, 5).double()
    for block in (rows[:8], rows[8:16], rows[16:]):
        gram = block @ block.T
        assert (gram - gram.diagonal().diag()).abs().max() < 1e-5
    many = random_features(8000, 8, 1)
    assert many.mean().abs() < 0.02
    torch.testing.assert_close(many.T @ many / 8000, torch.eye(8), atol=0.06, rtol=0)
    one, same, other = (
        LinearOverlap(16, 2, 1, count=8, name=name, compute_dtype=torch.float32) for name in ("a", "a", "b")
    )
    assert torch.equal(one.features.rows, same.features.rows)
    assert not torch.equal(one.features.rows, other.features.rows)


def test_features_estimate_the_overlap_without_bias() -> None:
    """exp(-|q' - k'|^2 / 2) lies within four standard errors of the mean over independent groups of features."""
    torch.manual_seed(0)
    q, k = 0.6 * torch.randn(6, 4, dtype=torch.float64), 0.6 * torch.randn(6, 4, dtype=torch.float64)
    estimates = []
    for seed in range(400):
        w = random_features(64, 4, seed).double()
        phi_q, phi_k = (torch.exp(x @ w.T - x.square().sum(-1, keepdim=True)) for x in (q, k))
        estimates.append((phi_q * phi_k).mean(-1))
    found = torch.stack(estimates)
    error = found.std(0) / math.sqrt(len(estimates))
    exact = torch.exp(-(q - k).square().sum(-1) / 2)
    assert ((found.mean(0) - exact).abs() < 4 * error).all()
    assert (error < 0.1 * exact).all()


def features(mixing: LinearOverlap, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """The module docstring's, from query / sqrt(h) and key."""
    h, w = key.shape[-1], mixing.features.rows.double()
    q, k = query * math.sqrt(h) / h**0.25, key / h**0.25
    of_query = torch.exp(q @ w.T - (q @ w.T).max(-1, keepdim=True).values) + FLOOR
    of_key = torch.exp((k @ w.T - k.square().sum(-1, keepdim=True) + math.sqrt(h)).clamp(max=LARGEST)) + FLOOR
    return of_query, of_key


@pytest.mark.parametrize("kind", ["all", "segments"])
@pytest.mark.parametrize("chunk", [1, 3, CHUNK])
def test_parallel_chunked_and_recurrent_are_one_double_sum(
    kind: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bloomery.systems.harmonic.linear_attention.CHUNK", chunk)
    torch.manual_seed(0)
    query, key, value = draw(2, 4, 10, 4), draw(2, 2, 10, 4), draw(2, 2, 10, 4)
    where, seen = where_and_seen(kind, 10)
    mixing = LinearOverlap(16, 4, 2, count=6, name="a", compute_dtype=torch.float64)
    of_query, of_key = features(mixing, query, key)
    rows = []
    for row, t, head in itertools.product(range(2), range(10), range(4)):
        weights = [of_query[row, head, t] @ of_key[row, head // 2, s] if seen(row, t, s) else None for s in range(10)]
        read = [(w, value[row, head // 2, s]) for s, w in enumerate(weights) if w is not None]
        rows.append(torch.stack([w * v for w, v in read]).sum(0) / torch.stack([w for w, _ in read]).sum())
    expected = torch.stack(rows).view(2, 10, 16)
    inputs = [query, key, value]
    direct = parallel(of_query, of_key, value, where.segments).transpose(1, 2).flatten(2)
    check(direct, expected, inputs)
    cut = chunked(of_query, of_key, value, None, where.segments, chunk).transpose(1, 2).flatten(2)
    check(cut, expected, inputs)
    check(mixing(value, query, key, value, where, None), expected, inputs)
    if kind == "all":
        cache, parts = mixing.empty(2, 0, device=CPU), []
        with torch.no_grad():
            for start, stop in ((0, 1), (1, 2), (2, 7), (7, 10)):
                cut_ = [part[:, :, start:stop] for part in (query, key, value)]
                parts.append(mixing(value, *cut_, where, cache))
        torch.testing.assert_close(torch.cat(parts, 1), expected)
        torch.testing.assert_close(cache[1], of_key.sum(2))
        torch.testing.assert_close(cache[0], of_key.transpose(2, 3) @ value)


def test_with_many_features_it_is_overlap_attention() -> None:
    torch.manual_seed(0)
    query, key, value = (0.7 * torch.randn(2, 2, 30, 4, dtype=torch.float64) for _ in range(3))
    query = query / math.sqrt(4)
    where = positions(30, 4, 100.0, device=CPU, dtype=torch.float64)
    exact = Overlap(8, 2, 2, compute_dtype=torch.float64)(value, query, key, value, where, None)
    errors = []
    for number in (8, 256, 8192):
        mixing = LinearOverlap(8, 2, 2, count=number, name="a", compute_dtype=torch.float64)
        errors.append(float((mixing(value, query, key, value, where, None) - exact).norm() / exact.norm()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.05


@pytest.mark.parametrize("length", [0.0, 100.0])
def test_sums_stay_finite_however_long_queries_and_keys_are(length: float) -> None:
    torch.manual_seed(0)
    query, key, value = (length * torch.randn(1, 2, 6, 64) for _ in range(3))
    for tensor in (query, key, value):
        tensor.requires_grad_()
    mixing = LinearOverlap(128, 2, 2, count=32, name="a", compute_dtype=torch.float32)
    out = mixing(value, query, key, value, positions(6, 64, 100.0, device=CPU), None)
    out.sum().backward()
    assert all(torch.isfinite(each).all() for each in (out, query.grad, key.grad, value.grad) if each is not None)


def config(form: str, **changes: object) -> HarmonicConfig:
    shape = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "compression": 2, "attention": form}
    return HarmonicConfig.model_validate(shape | changes)


def model(form: str, vocab: int = 50, **changes: object) -> Transformer:
    torch.manual_seed(0)
    made = build(config(form, **changes), vocab, compute_dtype=torch.float64).double()
    assert isinstance(made, Transformer)
    return made


@pytest.mark.parametrize("form", ["softmax", *FORMS])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_counted_twice_and_covered_exactly(form: str, qk_norm: bool) -> None:
    shape = config(form, qk_norm=qk_norm)
    with torch.device("meta"):
        made = build(shape, 50)
    assert_equal(shape.tally(50), count(made))
    assert_equal(shape.tally(50), made.tally())
    prove_cover((name for name, _ in made.named_parameters()), {"scales": made.scales()})
    if form != "overlap":  # whose heads are padded off the CPU
        assert measure_flops(made).per_pair == shape.attention_flops_per_token(1)
    linears = [each.stored for each in (shape.tally(50), config("softmax").tally(50))]
    assert linears[0] - linears[1] == (2 * 32 * 6 if form == "overlap_widths" else 0)


def test_operations_beyond_a_chunk_do_not_grow() -> None:
    shape = config("overlap_linear", attention_features=16)
    assert shape.attention_flops_per_token(64) == 0.5 * shape.attention_flops_per_token(CHUNK)
    assert shape.attention_flops_per_token(CHUNK) < shape.attention_flops_per_token(2 * CHUNK)
    assert shape.attention_flops_per_token(2 * CHUNK) == shape.attention_flops_per_token(2**20)
    assert config("overlap").attention_flops_per_token(2**20) > 100 * shape.attention_flops_per_token(2**20)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="no attention_window"):
        config("overlap_linear", attention_window=8)
    with pytest.raises(ValidationError, match="attention_features"):
        config("overlap", attention_features=8)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=6, deadline=None)
@given(cuts=st.sets(st.integers(1, 19), max_size=5))
def test_cached_is_uncached_however_it_is_cut(form: str, cuts: set[int]) -> None:
    made = model(form)
    tokens = torch.randint(0, 50, (2, 20))
    state, parts = made.initial_state(2, 20), []
    with torch.no_grad():
        for start, stop in itertools.pairwise([0, *sorted(cuts), 20]):
            output = made(tokens[:, start:stop], state)
            state = output.state
            parts.append(output.logits)
        torch.testing.assert_close(torch.cat(parts, 1), made(tokens).logits)


@pytest.mark.parametrize("form", FORMS)
def test_packed_segments_do_not_see_each_other(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.systems.harmonic.linear_attention.CHUNK", 3)
    made = model(form)
    tokens = torch.randint(0, 50, (1, 15))
    segments = torch.tensor([[0] * 4 + [1] * 8 + [2] * 3])
    other = tokens.clone()
    other[0, :4] += 1
    other[0, 10:] += 1
    here, there = (made(each % 50, segments=segments).logits[0] for each in (tokens, other))
    torch.testing.assert_close(here[4:10], there[4:10], rtol=0, atol=0)
    assert (here[:4] - there[:4]).abs().min() > 0


@pytest.mark.parametrize("form", ["overlap", "overlap_widths", "overlap_unnormalised"])
def test_packed_segments_are_separate_documents(form: str) -> None:
    """Overlaps depend on distance alone, so a document may begin at any position; their estimate by features does not,
    but for its error."""
    made = model(form)
    tokens = torch.randint(0, 50, (1, 15))
    segments = torch.tensor([[0] * 4 + [1] * 8 + [2] * 3])
    packed = made(tokens, segments=segments).logits
    alone = torch.cat([made(tokens[:, a:b]).logits for a, b in ((0, 4), (4, 12), (12, 15))], dim=1)
    torch.testing.assert_close(packed, alone)


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=6, deadline=None)
@given(asked=requests())
def test_answers_are_scored_as_by_one_pass_each(form: str, asked: tuple[list[Request], int]) -> None:
    made = model(form, VOCAB)
    assert made.sharing == ("snapshot" if form == "overlap_linear" else "crop")
    wanted, window = asked
    for request, mine in zip(wanted, score_all(made, wanted, window=window).scores, strict=True):
        slowly = score_one(made, request, window=window).logprob
        assert mine.logprob == pytest.approx(slowly, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_come_and_go_have_the_logits_of_texts_alone(form: str) -> None:
    made = model(form)
    batch = decoding(made, slots=3, length=30)
    assert isinstance(batch, Batched)
    texts: list[list[int]] = []

    def step() -> None:
        for number, text in enumerate(texts):
            text.append(7 * number + len(text))
        logits = batch.step([text[-1] for text in texts])
        for row, text in enumerate(texts):
            with torch.no_grad():
                torch.testing.assert_close(logits[row], made(torch.tensor([text])).logits[0, -1])

    for text in ([1, 2, 3, 4, 5], [6], [7, 8, 9]):
        texts.append(text)
        batch.add(text, 30)
        step()
    batch.drop(0)
    texts[0] = texts.pop()
    step()
    texts.append([11, 12])
    batch.add(texts[-1], 30)
    step()
    step()


@pytest.mark.parametrize("form", FORMS)
def test_generation_with_cache_equals_generation_without(form: str) -> None:
    made = model(form, 257)
    with torch.no_grad():
        made.get_parameter("embedding").mul_(2.4)
    texts = [
        generate(made, BytesTokenizer(), "def f(x):", max_tokens=30, temperature=0, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("form", FORMS)
def test_learns(form: str) -> None:
    torch.manual_seed(0)
    made = build(config(form), 17)
    scales = made.scales()
    optimiser = torch.optim.Adam(
        [{"params": [p], "lr": 0.1 * scales[name].initial_scale} for name, p in made.named_parameters()]
    )
    tokens = torch.arange(68).view(4, 17) * 3 % 17
    for step in range(30):
        logits = made(tokens[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        first = loss.item() if step == 0 else first
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.3 * first
