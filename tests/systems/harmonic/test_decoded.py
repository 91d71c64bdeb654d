"""Level 4 against its recursion written out entry by entry, in float64, values and gradients."""

import copy
import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bloomery.model.dense import Transformer
from bloomery.model.select import prove_cover
from bloomery.model.tally import assert_equal, count
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.decoded import DecodedLinear, SharedDecoder
from bloomery.systems.harmonic.model import build


def config(**changes: object) -> HarmonicConfig:
    shape = {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "feed_forward": 24, "level": 4, "meta_components": 3}
    return HarmonicConfig.model_validate(shape | changes)


def linear(inputs: int, outputs: int, components: int = 3, gain: float = 1.0) -> tuple[DecodedLinear, SharedDecoder]:
    torch.manual_seed(0)
    shared = SharedDecoder(components).double()
    made = DecodedLinear(inputs, outputs, shared, gain=gain, compute_dtype=torch.float64).double()
    shared.initialise()
    made.initialise()
    return made, shared


def slow_weight(made: DecodedLinear, shared: SharedDecoder) -> Tensor:
    """From an entry's tile up to the root, and down again along the bits of its row and column."""
    size = shared.components

    def cell(row: int, column: int, rows: int, columns: int) -> Tensor:
        if (rows, columns) == (1, 1):
            return made.latent
        above = cell(row // 2, column // 2, math.ceil(rows / 2), math.ceil(columns / 2))
        quadrant = 2 * (row % 2) + column % 2
        return torch.sin(shared.split[quadrant * size : (quadrant + 1) * size] @ above)

    rows, columns = math.ceil(made.outputs / 4), math.ceil(made.inputs / 4)
    return torch.stack([
        made.gain[o] * torch.stack([
            shared.readout[4 * (o % 4) + i % 4] @ cell(o // 4, i // 4, rows, columns) for i in range(made.inputs)
        ])
        for o in range(made.outputs)
    ])  # fmt: skip


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 2), (4, 9), (16, 16), (21, 7), (11, 37)])
def test_value_and_gradient(inputs: int, outputs: int) -> None:
    made, shared = linear(inputs, outputs)
    expected = slow_weight(made, shared)
    torch.testing.assert_close(made.weight(), expected.detach())
    x = torch.randn(5, inputs, dtype=torch.float64, requires_grad=True)
    slope = torch.randn(5, outputs, dtype=torch.float64)
    read = [x, *made.parameters(), *shared.parameters()]
    found, wanted = made(x), x @ expected.T
    torch.testing.assert_close(found, wanted)
    for here, there in zip(
        torch.autograd.grad(found, read, slope), torch.autograd.grad(wanted, read, slope, allow_unused=True),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(here, torch.zeros_like(here) if there is None else there)


def test_rows_begin_with_the_norm_of_dense_ones_and_a_full_rank() -> None:
    made, _ = linear(256, 192, components=16, gain=0.5)
    weight = made.weight()
    torch.testing.assert_close(weight.norm(dim=1), torch.full((192,), 0.5, dtype=torch.float64))
    energy = torch.linalg.svdvals(weight).square().cumsum(0)
    assert int((energy < 0.999 * energy[-1]).sum()) + 1 > 0.8 * 192
    scales = made.scales()["gain"].initial_scale
    assert made.gain.mean().item() == pytest.approx(scales, rel=0.3)  # its natural scale is that of unit entries


@pytest.mark.parametrize("components", [8, 32])
def test_every_size_has_the_variance_of_the_one_before(components: int) -> None:
    made, shared = linear(512, 512, components=components)
    cells, _ = made.generator.cells(made.latent.detach(), shared.split.detach())
    for each in cells[3:]:
        assert each.square().mean().item() == pytest.approx((1 - math.exp(-2)) / 2, rel=0.35)


def test_counted_twice_by_hand_and_covered_exactly() -> None:
    shape = config()
    with torch.device("meta"):
        made = build(shape, 20)
    assert_equal(shape.tally(20), count(made))
    assert_equal(shape.tally(20), made.tally())
    groups = shape.tally(20).groups
    assert groups["shared"].stored == 4 * 9 + 16 * 3
    assert groups["attention"].stored + groups["feed_forward"].stored == 2 * (112 + 7 * 3)
    prove_cover((name for name, _ in made.named_parameters()), {"scales": made.scales()})
    with torch.device("meta"):
        frozen = build(config(frozen=True), 20)
    assert_equal(config(frozen=True).tally(20), count(frozen))
    assert {name for name, p in frozen.named_parameters() if p.requires_grad} == {
        "embedding", "norm.weight", *(f"blocks.{layer}.{part}_norm.weight" for layer in range(2)
                                      for part in ("attention", "feed_forward")),
    }  # fmt: skip


def test_the_same_seed_draws_the_same_model_and_linears_differ() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(build(config(meta_components=32), 20))
    for (name, one), (_, two) in zip(drawn[0].named_parameters(), drawn[1].named_parameters(), strict=True):
        assert torch.equal(one, two), name
    first, second = (drawn[0].get_submodule(f"blocks.{layer}.attention.query").weight() for layer in (0, 1))
    cosine = nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    assert abs(float(cosine)) < 2 / 32**0.5  # that of two latents, about R^-1/2


@pytest.mark.slow
def test_its_linears_learn_more_than_frozen_ones_and_a_copy_is_a_model_of_its_own() -> None:
    """A token is the sum of the two before it: no embedding, norm or head can do that alone."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(0, 7, (512, 12), generator=generator)
    for at in range(2, 12):
        rows[:, at] = (rows[:, at - 1] + rows[:, at - 2]) % 7
    ends = {}
    for frozen in (False, True):
        torch.manual_seed(0)
        made = build(config(width=32, feed_forward=48, meta_components=8, frozen=frozen), 7)
        assert isinstance(made, Transformer)
        other, scales = copy.deepcopy(made), made.scales()
        learned = [(name, p) for name, p in made.named_parameters() if p.requires_grad]
        optimiser = torch.optim.Adam([{"params": [p], "lr": 0.03 * scales[name].initial_scale} for name, p in learned])
        losses = []
        for step in range(300):
            batch = rows[step * 32 % 480 :][:32]
            logits = made(batch[:, :-1]).logits[:, 1:]
            loss = nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 2:].flatten())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        ends[frozen] = losses[-1]
        before, after = dict(other.named_parameters()), dict(made.named_parameters())
        assert all(not torch.equal(before[name], after[name]) for name, _ in learned)
        again = nn.functional.cross_entropy(
            other(rows[:32, :-1]).logits[:, 1:].flatten(0, 1), rows[:32, 2:].flatten()
        ).item()  # fmt: skip
        assert again == pytest.approx(losses[0], rel=1e-5)
    assert ends[False] < 0.5 * ends[True], ends


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"meta_components": None}, "level 4 needs meta_components"),
        ({"compression": 2}, "level 4 has no compression"),
        ({"depth_harmonics": 2}, "level 4 has no depth_harmonics"),
        ({"form": "literal"}, "level 4 has one form: no literal"),
        ({"form": "low_rank"}, "level 4 has one form: no low_rank"),
    ],
)
def test_what_does_not_fit_together_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**changes)
