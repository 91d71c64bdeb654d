"""The harmonic transformer: counted twice, trained a little, cached, and with a dense twin of its size."""

from typing import get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bloomery.data.tokenizer import BytesTokenizer
from bloomery.engine.discover import catalogue, load
from bloomery.errors import TrainingError
from bloomery.evaluate.sample import generate
from bloomery.evaluate.scoring import Request, score_all
from bloomery.model.dense import Transformer
from bloomery.model.select import frozen, prove_cover
from bloomery.model.tally import assert_equal, count, measure_flops
from bloomery.model.twin import solve
from bloomery.systems.harmonic.bases.sine import SineLinear
from bloomery.systems.harmonic.config import Basis, HarmonicConfig
from bloomery.systems.harmonic.model import build
from bloomery.train.optim import Optimisers, OptimizerConfig
from support.scoring import VOCAB, requests, score_one

BASES = get_args(Basis)
SMALL = HarmonicConfig(layers=2, width=32, heads=2, compression=4)


@st.composite
def configs(draw: st.DrawFn, basis: Basis) -> HarmonicConfig:
    kv_heads = draw(st.integers(1, 2))
    heads = kv_heads * draw(st.integers(1, 2))
    try:
        return HarmonicConfig(
            layers=draw(st.integers(1, 2)),
            width=heads * 2 * draw(st.integers(4, 9)),
            heads=heads,
            kv_heads=kv_heads,
            feed_forward=draw(st.none() | st.integers(8, 60)),
            tie_embeddings=draw(st.booleans()),
            compression=draw(st.floats(1, 5)),
            basis=basis,
            frozen=draw(st.booleans()),
            **({"blocks": draw(st.integers(1, 16))} if basis == "monarch" else {}),
        )
    except ValidationError:
        assume(False)
        raise


@pytest.mark.parametrize("basis", BASES)
@settings(max_examples=3, deadline=None)
@given(data=st.data(), vocab=st.integers(1, 50))
def test_closed_form_equals_the_modules(basis: Basis, data: st.DataObject, vocab: int) -> None:
    config = data.draw(configs(basis))
    with torch.device("meta"):
        model = build(config, vocab)
    assert_equal(config.tally(vocab), count(model))
    assert_equal(config.tally(vocab), model.tally())
    assert config.tally(vocab).dense_equivalent == model.tally().dense_equivalent


def test_generation_is_paid_per_pass_and_not_per_token() -> None:
    with torch.device("meta"):
        model = build(SMALL, 50)
    linears = [module for module in model.modules() if isinstance(module, SineLinear)]
    assert len(linears) == 7 * SMALL.layers
    assert measure_flops(model).per_pass == sum(2 * each.rank * each.inputs * each.outputs for each in linears)


def test_every_parameter_has_one_scale() -> None:
    model = build(SMALL, 50)
    prove_cover((name for name, _ in model.named_parameters()), {"scales": model.scales()})
    groups = {scale.group for scale in model.scales().values()}
    assert groups == {"embedding", "norm", "centres", "gain"}
    for name, parameter in model.named_parameters():
        if not name.endswith(("gain", "norm.weight")):
            assert parameter.std().item() == pytest.approx(model.scales()[name].initial_scale, rel=0.4), name


def test_initial_activations_match_the_dense_model() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 50, (4, 32))
    config = HarmonicConfig(layers=4, width=64, heads=2, compression=4)
    generated, dense = build(config, 50), Transformer(config.dense(), 50)
    for name in ("query", "value", "output"):
        seen = []
        for model in (generated, dense):
            sizes: list[float] = []
            module = model.get_submodule(f"blocks.1.attention.{name}")
            handle = module.register_forward_hook(lambda _m, _i, out, sizes=sizes: sizes.append(out.std().item()))
            model(tokens)
            handle.remove()
            seen.append(sizes[0])
        assert seen[0] == pytest.approx(seen[1], rel=0.3)


@pytest.mark.parametrize("basis", BASES)
def test_learns(basis: Basis) -> None:
    torch.manual_seed(0)
    model = build(HarmonicConfig(layers=2, width=32, heads=2, compression=4, basis=basis), 17)
    scales = model.scales()
    optimiser = torch.optim.Adam(
        [{"params": [p], "lr": 0.1 * scales[name].initial_scale} for name, p in model.named_parameters()]
    )
    tokens = torch.arange(68).view(4, 17) * 3 % 17
    losses = []
    for _ in range(30):
        logits = model(tokens[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("basis", ["sine", "monarch"])
def test_frozen_linears_stay_as_drawn_while_the_rest_learns(basis: Basis) -> None:
    shape = HarmonicConfig(layers=2, width=32, heads=2, compression=4, basis=basis, frozen=True)
    torch.manual_seed(0)
    model, tokens = build(shape, 17), torch.arange(68).view(4, 17) * 3 % 17
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimisers = Optimisers(model, OptimizerConfig(lr=0.1, weight_decay=0.1))
    for _ in range(10):
        logits = model(tokens[:, :-1]).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimisers.step()
        optimisers.zero_grad()
    linears = {name for name in before if ".attention." in name or ".feed_forward." in name}
    assert {name for name, value in model.named_parameters() if torch.equal(value, before[name])} == linears
    free = build(shape.model_copy(update={"frozen": False}), 17)
    assert model.tally().total("frozen") == sum(before[name].numel() for name in linears)
    assert free.tally().total("frozen") == 0


@pytest.mark.parametrize("form", ["shared_coordinates", "low_rank", pytest.param("literal", marks=pytest.mark.slow)])
def test_frozen_levels_are_counted_frozen(form: str) -> None:
    shape = HarmonicConfig.model_validate(
        {"layers": 2, "width": 32, "heads": 2, "level": 2, "form": form, "meta_components": 3, "frozen": True}
    )
    with torch.device("meta"):
        model = build(shape, 50)
    assert_equal(shape.tally(50), count(model))
    assert_equal(shape.tally(50), model.tally())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == {name for name, _ in model.named_parameters() if "norm" in name or name == "embedding"}


def test_frozen_linears_hand_on_the_same_gradient() -> None:
    torch.manual_seed(0)
    free = build(SMALL, 50)
    held = build(SMALL.model_copy(update={"frozen": True}), 50)
    held.load_state_dict(free.state_dict())
    tokens = torch.randint(0, 50, (2, 9))
    for model in (free, held):
        model(tokens).logits.square().sum().backward()
    for name, parameter in held.named_parameters():
        assert (parameter.grad is None) is not parameter.requires_grad
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, free.get_parameter(name).grad)


def test_the_same_generator_gives_the_same_model() -> None:
    first, second = (build(SMALL, 50, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    for here, there in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(here, there)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evaluation_from_cached_weights_equals_the_training_pass(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = build(SMALL, 50, compute_dtype=dtype)
    tokens = torch.randint(0, 50, (2, 9))
    training = model(tokens).logits
    with torch.inference_mode():
        assert torch.equal(model(tokens).logits, training)
    assert all(m.cached is not None for m in model.modules() if isinstance(m, SineLinear))


def test_activation_checkpointing_changes_no_gradient() -> None:
    torch.manual_seed(0)
    model = build(SMALL, 50)
    assert isinstance(model, Transformer)
    tokens = torch.randint(0, 50, (2, 9))
    seen = []
    for checkpointing in (False, True):
        model.activation_checkpointing = checkpointing
        model.zero_grad()
        model(tokens).logits.square().sum().backward()
        seen.append([parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None])
    assert len(seen[0]) == len(list(model.parameters()))
    for plain, again in zip(*seen, strict=True):
        assert torch.equal(plain, again)


def test_generation_with_cache_equals_generation_without() -> None:
    torch.manual_seed(1)
    model = build(SMALL, 257)
    with torch.no_grad():
        model.get_parameter("embedding").mul_(2.4)  # far from uniform
    texts = [
        generate(model, BytesTokenizer(), "def f(x):", max_tokens=40, temperature=0, use_cache=use_cache)
        for use_cache in (True, False)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 10


def test_quickstart_twin() -> None:
    config = HarmonicConfig(layers=4, width=256, heads=4, compression=10)
    tally = config.tally(2048)
    twin = solve(tally, config.dense(), 2048, match="stored", tolerance=0.02)
    assert twin.width == 112
    assert twin.tally(2048).stored == pytest.approx(tally.stored, rel=0.005)
    assert solve(tally, config.dense(), 2048, match="flops", context=128).width == 256


def test_is_installed() -> None:
    system = catalogue.system("harmonic")
    assert load(system.config) is HarmonicConfig
    assert load(system.build) is build


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 5e-2)])
@settings(max_examples=10, deadline=None)
@given(asked=requests())
def test_answers_are_scored_as_by_one_pass_each(
    dtype: torch.dtype, tolerance: float, asked: tuple[list[Request], int]
) -> None:
    torch.manual_seed(0)
    model = build(SMALL, VOCAB, compute_dtype=dtype)
    if dtype == torch.float64:
        model = model.double()
    assert model.sharing == "crop"
    wanted, window = asked
    for request, mine in zip(wanted, score_all(model, wanted, window=window).scores, strict=True):
        slow = score_one(model, request, window=window).logprob
        assert mine.logprob == pytest.approx(slow, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize(
    ("basis", "held"),
    [
        ("sine", {"out_coordinates", "in_coordinates"}),
        ("row_gauss", {"centre", "log_width"}),
        ("row_scale_space", {"centre", "log_width"}),
        ("row_gabor", {"centre", "log_width", "frequency", "phase"}),
        ("row_cos", {"frequency", "phase"}),
    ],
)
def test_centres_are_where_components_lie(basis: Basis, held: set[str]) -> None:
    """What `freeze: [centres]` leaves untrained: amplitudes and gains go on learning."""
    with torch.device("meta"):
        model = build(HarmonicConfig(layers=1, width=32, heads=2, compression=4, basis=basis), 50)
    groups = {name: scale.group for name, scale in model.scales().items()}
    found = frozen(groups, ["centres"])
    assert {name.rpartition(".")[2] for name in found} == held
    assert len(found) == 7 * len(held)


def test_a_basis_without_centres_says_so() -> None:
    with torch.device("meta"):
        model = build(HarmonicConfig(layers=1, width=32, heads=2, compression=4, basis="kron"), 50)
    with pytest.raises(TrainingError, match="centres"):
        frozen({name: scale.group for name, scale in model.scales().items()}, ["centres"])
