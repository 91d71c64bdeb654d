"""Levels 2 and 3 against their formulas written out entry by entry, in float64, values and gradients."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bloomery.model.dense import Transformer
from bloomery.model.select import prove_cover
from bloomery.model.tally import assert_equal, count, measure_flops
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.levels import ATOMS
from bloomery.systems.harmonic.meta import LiteralMetaLinear
from bloomery.systems.harmonic.model import build

LEVELS = [
    {"level": 2},
    {"level": 2, "form": "low_rank"},
    {"level": 2, "form": "literal"},
    {"level": 3, "depth_harmonics": 2},
    {"level": 3, "form": "low_rank", "depth_harmonics": 3},
]


def config(**changes: object) -> HarmonicConfig:
    shape = {"layers": 3, "width": 16, "heads": 2, "kv_heads": 1, "feed_forward": 24, "meta_components": 4}
    return HarmonicConfig.model_validate(shape | changes)


def model(vocab: int = 20, dtype: torch.dtype = torch.float64, **changes: object) -> Transformer:
    torch.manual_seed(0)
    made = build(config(**changes), vocab, compute_dtype=dtype).to(dtype)
    assert isinstance(made, Transformer)
    return made


def slow_weight(made: Transformer, shape: HarmonicConfig, layer: int, part: str) -> Tensor:
    """The formulas of levels.py, one entry at a time."""
    kind = part.partition(".")[2]
    own = dict(made.blocks[layer].get_submodule(part).named_parameters())
    tables = dict(made.shared.tables)
    sides = {name: (inputs, outputs) for name, inputs, outputs in shape.linear_shapes()}
    inputs, outputs = sides[kind]
    if shape.level == 3:
        harmonics = made.shared.harmonics[kind]
        mix = sum(math.cos(math.pi * j * (layer + 0.5) / shape.layers) * harmonics[j] for j in range(len(harmonics)))
    else:
        mix = own["mix.own"]
    rows = []
    for o in range(outputs):
        entries = []
        for i in range(inputs):
            phase = sum(
                tables[str(outputs)][o, a] * mix[a, b] * tables[str(inputs)][i, b]
                for a in range(4) for b in range(4)
            )  # fmt: skip
            entries.append(phase if shape.form == "low_rank" else torch.sin(shape.omega * phase))
        rows.append(own["gain"][o] * torch.stack(entries))
    return torch.stack(rows)


@pytest.mark.parametrize("changes", [each for each in LEVELS if each.get("form") != "literal"])
@pytest.mark.parametrize(("layer", "part"), [(0, "attention.query"), (2, "attention.key"), (1, "feed_forward.down")])
def test_shared_coordinates(changes: dict[str, object], layer: int, part: str) -> None:
    made, shape = model(**changes), config(**changes)
    linear = made.blocks[layer].get_submodule(part)
    with torch.no_grad():
        linear.gain.mul_(torch.rand_like(linear.gain) + 0.5)
    expected = slow_weight(made, shape, layer, part)
    torch.testing.assert_close(linear.weight(), expected.detach())
    x = torch.randn(3, 5, expected.shape[1], dtype=torch.float64, requires_grad=True)
    found, wanted = linear(x), x @ expected.T
    torch.testing.assert_close(found, wanted)
    slope = torch.randn_like(wanted)
    read = [x, *linear.parameters(), *made.shared.parameters()]
    gradients = [torch.autograd.grad(y, read, slope, allow_unused=True, retain_graph=True) for y in (found, wanted)]
    for here, there in zip(*gradients, strict=True):
        if here is not None or there is not None:
            torch.testing.assert_close(here, there)
    with torch.no_grad():
        torch.testing.assert_close(linear(x), wanted)


def slow_literal(linear: LiteralMetaLinear) -> Tensor:
    def field(number: int, heights: Tensor, k: int, at: float) -> Tensor:
        place, width = linear.place[number, k], torch.exp(linear.log_width[number, k])
        return sum(
            heights[k, h] * torch.exp(-((at - place[h]) ** 2) / (2 * width[h] ** 2)) for h in range(heights.shape[1])
        )

    rows = []
    for o in range(linear.outputs):
        at, row = (o + 0.5) / linear.outputs, torch.zeros(linear.inputs, dtype=torch.float64)
        for k in range(ATOMS):
            centre = linear.unit * (field(1, linear.centre_height, k, at) + linear.offset[0, k])
            width = linear.unit * torch.exp(field(2, linear.width_height, k, at) + linear.offset[1, k])
            atom = torch.stack([torch.exp(-((i - centre) ** 2) / (2 * width**2)) for i in range(linear.inputs)])
            row = row + field(0, linear.amplitude_height, k, at) * atom / (math.sqrt(math.pi) * width) ** 0.5
        rows.append(row)
    return torch.stack(rows)


def test_literal_form() -> None:
    torch.manual_seed(0)
    linear = LiteralMetaLinear(7, 5, 3, compute_dtype=torch.float64).double()
    linear.initialise()
    expected = slow_literal(linear)
    torch.testing.assert_close(linear.weight(), expected.detach())
    x = torch.randn(4, 7, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(4, 5, dtype=torch.float64)
    read = [x, *linear.parameters()]
    found, wanted = (torch.autograd.grad(y, read, slope) for y in (linear(x), x @ expected.T))
    for here, there in zip(found, wanted, strict=True):
        torch.testing.assert_close(here, there)


def test_the_literal_form_has_the_seeds_740_numbers_whatever_the_matrix() -> None:
    with torch.device("meta"):
        for side in (64, 4096):
            linear = LiteralMetaLinear(side, side, 8)
            assert sum(parameter.numel() for parameter in linear.parameters()) == linear.tally().stored == 740


@pytest.mark.parametrize("sides", [(128, 96), (512, 256)])
def test_literal_rows_begin_with_the_norm_of_dense_ones_and_few_singular_values(sides: tuple[int, int]) -> None:
    """Spec 1.3: 26 hold 99.9 % of the energy at 512 x 256; of shared coordinates nearly all have to."""
    torch.manual_seed(0)
    outputs, inputs = sides
    linear = LiteralMetaLinear(inputs, outputs, 8, gain=0.5)
    linear.initialise()
    weight = linear.weight()
    assert weight.norm(dim=1).square().mean().sqrt().item() == pytest.approx(0.5, rel=1e-4)
    energy = torch.linalg.svdvals(weight.double()).square().cumsum(0)
    assert int((energy < 0.999 * energy[-1]).sum()) + 1 <= 40
    shape = HarmonicConfig(
        layers=1, width=inputs, heads=4, feed_forward=outputs, level=2, meta_components=8
    )  # fmt: skip
    shared = build(shape, 20).get_submodule("blocks.0.feed_forward.gate").weight()
    energy = torch.linalg.svdvals(shared.double()).square().cumsum(0)
    assert int((energy < 0.999 * energy[-1]).sum()) + 1 > 0.8 * inputs


@pytest.mark.slow
@pytest.mark.parametrize("changes", LEVELS)
def test_counted_twice_and_covered_exactly(changes: dict[str, object]) -> None:
    shape = config(**changes)
    with torch.device("meta"):
        made = build(shape, 20)
    assert_equal(shape.tally(20), count(made))
    assert_equal(shape.tally(20), made.tally())
    assert shape.tally(20).dense_equivalent == shape.dense().tally(20).stored == made.tally().dense_equivalent
    prove_cover((name for name, _ in made.named_parameters()), {"scales": made.scales()})
    assert measure_flops(made).per_pair == shape.attention_flops_per_token(1)


def test_shared_numbers_by_hand() -> None:
    """Widths 16, 8 and 24; outputs of a layer 16 + 8 + 8 + 16 + 24 + 24 + 16; seven kinds."""
    two, three = config(level=2).tally(20), config(level=3, depth_harmonics=2).tally(20)
    assert two.groups["shared"].stored == 4 * (16 + 8 + 24)
    assert two.groups["attention"].stored + two.groups["feed_forward"].stored == 3 * (112 + 7 * 16)
    assert three.groups["shared"].stored == 4 * (16 + 8 + 24) + 7 * 2 * 16
    assert three.groups["attention"].stored + three.groups["feed_forward"].stored == 3 * 112
    assert config(level=2, form="low_rank").tally(20).stored == two.stored


@pytest.mark.parametrize("changes", LEVELS)
def test_initial_weights_have_their_scales_and_dense_variance(changes: dict[str, object]) -> None:
    torch.manual_seed(0)
    big = {"layers": 3, "width": 256, "heads": 4, "feed_forward": 512, "meta_components": 24, **changes}
    made = build(HarmonicConfig.model_validate(big), 20)
    scales = made.scales()
    for name, parameter in made.named_parameters():
        if name.endswith((".own", "_height")) or name.startswith("shared."):
            off = 0.4 if name.endswith("_height") else 0.2  # whose scale is that of an unbounded index
            assert parameter.std().item() == pytest.approx(scales[name].initial_scale, rel=off), name
    for name, gain in (("attention.query", 1.0), ("feed_forward.down", 1 / math.sqrt(6))):
        linear = made.blocks[1].get_submodule(name)
        out = linear(torch.randn(400, linear.inputs))
        assert out.std().item() == pytest.approx(gain, rel=0.2), name


@pytest.mark.slow
@pytest.mark.parametrize("changes", LEVELS)
def test_every_number_learns_and_a_copy_is_a_model_of_its_own(changes: dict[str, object]) -> None:
    made = model(dtype=torch.float32, **changes)
    other = copy.deepcopy(made)
    tokens = torch.arange(68).view(4, 17) * 3 % 17
    scales = made.scales()
    optimiser = torch.optim.Adam(
        [{"params": [p], "lr": 0.03 * scales[name].initial_scale} for name, p in made.named_parameters()]
    )
    losses = []
    for _ in range(80):
        loss = nn.functional.cross_entropy(made(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    before, after = dict(other.named_parameters()), dict(made.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)
    with torch.no_grad():
        loss = nn.functional.cross_entropy(other(tokens[:, :-1]).logits.flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("changes", LEVELS)
def test_generation_without_gradients_follows_a_shared_table(changes: dict[str, object]) -> None:
    made = model(**changes)
    tokens = torch.arange(18).view(2, 9) % 20
    with torch.no_grad():
        made(tokens)
        for parameter in made.parameters():
            parameter.add_(0.1)
        kept = made(tokens).logits
    torch.testing.assert_close(kept, made(tokens).logits)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"level": 1}, "level 1 needs compression"),
        ({"level": 1, "compression": 2}, "level 1 has no meta_components"),
        ({"level": 2, "compression": 2}, "level 2 has no compression"),
        ({"level": 2, "meta_components": None}, "level 2 needs meta_components"),
        ({"level": 2, "depth_harmonics": 2}, "level 2 has no depth_harmonics"),
        ({"level": 3}, "level 3 needs depth_harmonics"),
        ({"level": 3, "depth_harmonics": 4}, "4 for 3 layers"),
        ({"level": 3, "depth_harmonics": 2, "form": "literal"}, "literal form ends at level 2"),
        ({"level": 2, "basis": "kron"}, "not the basis kron"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**changes)
