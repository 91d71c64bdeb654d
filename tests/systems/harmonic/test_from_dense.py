"""from_dense against brute force on tiny matrices, closed forms of what is missed, and the order of spec 2.3."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bloomery.errors import TrainingError
from bloomery.systems.harmonic.bases import TABLE
from bloomery.systems.harmonic.bases.hashed import HashedLinear, places
from bloomery.systems.harmonic.bases.kron import KronLinear
from bloomery.systems.harmonic.bases.lowrank import LowRankLinear
from bloomery.systems.harmonic.bases.monarch import MonarchLinear
from bloomery.systems.harmonic.bases.row_cos import RowCosLinear
from bloomery.systems.harmonic.bases.row_gauss import RowGaussLinear
from bloomery.systems.harmonic.bases.sine import SineLinear
from bloomery.systems.harmonic.from_dense import exact, from_dense, refine
from bloomery.systems.harmonic.metric import Metric


def random(outputs: int, inputs: int, seed: int = 0) -> Tensor:
    return torch.randn(outputs, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def decaying(outputs: int, inputs: int, power: float = 0.7) -> Tensor:
    """Singular values j^-power, as those of trained matrices fall."""
    left, right = (torch.linalg.qr(random(size, size, size))[0] for size in (outputs, inputs))
    count = min(outputs, inputs)
    values = torch.arange(1, count + 1, dtype=torch.float64) ** -power
    return left[:, :count] * values @ right[:count]


def covariance(inputs: int, power: float = 1.0) -> Tensor:
    turned = torch.linalg.qr(random(inputs, inputs, 5))[0]
    return turned * torch.arange(1, inputs + 1, dtype=torch.float64) ** -power @ turned.t()


def tail(matrix: Tensor, rank: int) -> float:
    """Energy beyond the first singular values, from the eigenvalues of M M^T."""
    values = torch.linalg.eigvalsh(matrix @ matrix.t()).flip(0)
    return float(values[rank:].sum())


# What is missed, by another way


@pytest.mark.parametrize("correlated", [False, True])
def test_lowrank_misses_the_tail_of_the_spectrum(correlated: bool) -> None:
    weight, given = random(20, 14), covariance(14) if correlated else None
    found = from_dense(weight, "lowrank", 2, given)
    assert isinstance(found.linear, LowRankLinear)
    seen = weight @ torch.linalg.cholesky(given) if given is not None else weight  # any root gives the same energies
    assert found.unexplained_outputs == pytest.approx(tail(seen, found.linear.rank) / float(seen.square().sum()))


def test_activation_aware_beats_plain_where_inputs_are_correlated() -> None:
    weight, given = random(24, 24), covariance(24)
    aware, plain = from_dense(weight, "lowrank", 3, given), from_dense(weight, "lowrank", 3)
    assert aware.unexplained_outputs < 0.9 * Metric.of(given).unexplained(weight, exact(plain.linear))
    assert plain.unexplained < aware.unexplained


def test_monarch_misses_the_tail_of_every_block() -> None:
    weight = random(16, 24)
    found = from_dense(weight, "monarch", 1.6, blocks=4)
    assert isinstance(found.linear, MonarchLinear)
    b, k = found.linear.blocks, found.linear.block_width
    assert (b, k) == (4, 6)
    missed = 0.0
    for p, q in itertools.product(range(b), range(b)):
        features = sum(1 for f in range(b * k) if f // k == p and f % b == q)
        missed += tail(weight[4 * p : 4 * p + 4, 6 * q : 6 * q + 6], features)
    assert found.unexplained == pytest.approx(missed / float(weight.square().sum()), rel=1e-5)


def test_kron_misses_the_tail_of_the_rearranged_matrix() -> None:
    weight = random(6, 8)  # 2 x 3 by 2 x 4
    found = from_dense(weight, "kron", 2)
    assert isinstance(found.linear, KronLinear)
    rows = [weight[3 * a : 3 * a + 3, 4 * c : 4 * c + 4].flatten() for a in range(2) for c in range(2)]
    missed = tail(torch.stack(rows), found.linear.terms)
    assert found.unexplained == pytest.approx(missed / float(weight.square().sum()), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_hashed_is_the_least_squares_solution(weighted: bool) -> None:
    weight = random(6, 5)
    given = torch.diag(torch.arange(1.0, 6.0, dtype=torch.float64)) if weighted else None
    found = from_dense(weight, "hashed", 3, given)
    assert isinstance(found.linear, HashedLinear)
    place, sign = places(6, 5, 10, weight)
    design = torch.zeros(30, 10, dtype=torch.float64)
    design[torch.arange(30), place] = sign
    root = torch.ones(30, dtype=torch.float64) if given is None else given.diagonal().sqrt().repeat(6)
    used = design.abs().sum(0) > 0
    solution = torch.linalg.lstsq(design[:, used] * root[:, None], weight.flatten() * root).solution
    torch.testing.assert_close(found.linear.value.double()[used], solution, rtol=1e-5, atol=1e-6)


def test_one_gaussian_a_row_is_the_best_of_the_dictionary() -> None:
    weight = random(3, 9)
    found = from_dense(weight, "row_gauss", 3)
    assert isinstance(found.linear, RowGaussLinear)
    assert found.linear.atoms == 1
    index, missed = torch.arange(9, dtype=torch.float64), 0.0
    for row in weight:
        left = []
        for width, centre in itertools.product((0.5, 0.7, 1.4, 2.8, 5.6, 11.2), range(9)):
            atom = torch.exp(-(((index - centre) / width) ** 2) / 2)
            best = torch.linalg.lstsq(atom[:, None], row[:, None]).solution
            left.append(float((row - atom * best.squeeze()).square().sum()))
        missed += min(left)
    assert found.unexplained == pytest.approx(missed / float(weight.square().sum()), rel=1e-5)


def test_cosines_are_the_best_set_of_whole_frequencies() -> None:
    """Brute force over all pairs of frequencies, each with a cosine and a sine."""
    weight = random(3, 8)
    found = from_dense(weight, "row_cos", 8 / 6)
    assert isinstance(found.linear, RowCosLinear)
    assert found.linear.atoms == 2
    index, missed = torch.arange(8, dtype=torch.float64), 0.0
    for row in weight:
        left = []
        for chosen in itertools.combinations(range(5), 2):
            waves = [wave(2 * math.pi * f * index / 8) for f in chosen for wave in (torch.cos, torch.sin)]
            basis = torch.stack(waves, dim=1)
            best = torch.linalg.lstsq(basis, row[:, None], driver="gelsd").solution
            left.append(float((row - (basis @ best).squeeze()).square().sum()))
        missed += min(left)
    assert found.unexplained == pytest.approx(missed / float(weight.square().sum()), rel=1e-5)


@pytest.mark.parametrize("basis", ["row_gauss", "row_scale_space", "row_gabor", "row_cos"])
def test_amplitudes_are_solved_anew(basis: str) -> None:
    """What is left is orthogonal to every atom that a row has taken: no amplitude could be better."""
    weight = random(5, 24)
    linear = from_dense(weight, basis, 1.5).linear
    linear = linear.double()
    torch.nn.functional.mse_loss(linear(torch.eye(24)).double().t(), weight).backward()
    gradient = linear.get_parameter("amplitude").grad
    assert gradient is not None
    assert gradient.abs().max() < 1e-5 * weight.abs().max()


# What theory says of whole budgets, and of each against the others


@pytest.mark.parametrize("basis", [basis for basis in TABLE if basis != "sine"])
def test_exact_with_a_whole_budget(basis: str) -> None:
    weight = random(12, 8)
    assert from_dense(weight, basis, 0.1 if basis.startswith("row") else 0.4).unexplained < 1e-10


def test_sine_begins_at_the_lowrank_fit_of_its_rank_and_adam_goes_below() -> None:
    weight = decaying(48, 32)
    begun, gone_on = from_dense(weight, "sine", 5), from_dense(weight, "sine", 5, steps=100)
    assert isinstance(begun.linear, SineLinear)
    of_that_rank = tail(weight, begun.linear.rank) / float(weight.square().sum())
    assert of_that_rank - 1e-9 < begun.unexplained < of_that_rank + 0.01
    assert gone_on.unexplained < begun.unexplained


@pytest.mark.parametrize("correlated", [False, True])
def test_the_singular_values_explain_most(correlated: bool) -> None:
    """Spec 2.3: no other form of the same size beats them on matrices whose spectrum falls."""
    weight, given = decaying(64, 64), covariance(64) if correlated else None
    missed = {basis: from_dense(weight, basis, 6, given).unexplained_outputs for basis in TABLE}
    best = missed.pop("lowrank")
    assert all(best < other for other in missed.values()), missed


def test_data_driven_atoms_beat_drawn_ones() -> None:
    """Spec 2.3: matching pursuit .776, with Adam .751, a random start with Adam .952."""
    weight = random(64, 64)
    pursued = from_dense(weight, "row_gauss", 6)
    refined = from_dense(weight, "row_gauss", 6, steps=60)
    drawn = from_dense(torch.zeros_like(weight) + 1e-9 * weight, "row_gauss", 6).linear
    drawn.initialise(torch.Generator().manual_seed(0))
    refine(drawn, weight, Metric(), 60, 0.03)
    assert refined.unexplained < pursued.unexplained < 0.9 * Metric().unexplained(weight, exact(drawn))


@pytest.mark.parametrize("basis", TABLE)
def test_refining_never_harms(basis: str) -> None:
    weight, given = random(16, 24), covariance(24, 0.5)
    begun, gone_on = (from_dense(weight, basis, 2, given, steps=steps) for steps in (0, 15))
    assert gone_on.unexplained_outputs <= begun.unexplained_outputs + 1e-6


@pytest.mark.parametrize("basis", TABLE)
def test_reports_what_the_linear_itself_misses(basis: str) -> None:
    weight, given = random(16, 24), covariance(24)
    found = from_dense(weight, basis, 3, given, compute_dtype=torch.bfloat16)
    assert found.linear(torch.zeros(1, 24)).dtype == torch.bfloat16
    found.linear.compute_dtype = torch.float64
    missed = weight - found.linear.double()(torch.eye(24)).t().detach()
    inputs = torch.linalg.cholesky(given)
    assert found.unexplained == pytest.approx(float(missed.square().sum() / weight.square().sum()), rel=1e-4)
    outputs = float((missed @ inputs).square().sum() / (weight @ inputs).square().sum())
    assert found.unexplained_outputs == pytest.approx(outputs, rel=1e-4)


def test_the_same_matrix_gives_the_same_linear() -> None:
    for basis in TABLE:
        first, second = (from_dense(random(16, 24), basis, 3, steps=3).linear for _ in range(2))
        for here, there in zip(first.parameters(), second.parameters(), strict=True):
            assert torch.equal(here, there)


def test_mistakes_are_named() -> None:
    with pytest.raises(TrainingError, match=r"leaves kron .* without a component"):
        from_dense(random(8, 8), "kron", 9)
    with pytest.raises(TrainingError, match="not finite"):
        from_dense(random(8, 8) / 0, "lowrank", 2)
    with pytest.raises(TrainingError, match="negative"):
        from_dense(random(8, 8), "lowrank", 2, -covariance(8))


@pytest.mark.parametrize("basis", TABLE)
def test_a_matrix_of_zeros_has_nothing_to_miss(basis: str) -> None:
    with pytest.raises(TrainingError, match="all zeros"):
        from_dense(torch.zeros(16, 16), basis, 2.0)
