"""Token matrices, contexts and what is read from them, against 4x4 matrices and the definitions in loops."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from bloomery.systems.holographic import algebra, contexts, tokens
from bloomery.systems.holographic.chains import commutator_sums

GOLDEN = (1 + math.sqrt(5)) / 2
SIZES = pytest.mark.parametrize("size", [8, 16])


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < tolerance


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-5, 1e-3, 0.3, 3.0])
def test_exponentials_are_those_of_the_matrices(scale: float) -> None:
    bivectors = scale * algebra.grade(draw(40, 8), 2)
    bivectors[0, 2:] = 0  # a plane of its own: e1 e2 turns, e1 e4 boosts
    bivectors[1] = scale * torch.eye(8, dtype=torch.float64)[3]
    expected = torch.linalg.matrix_exp(algebra.to_matrix(bivectors))
    near(
        algebra.to_matrix(algebra.exponential(bivectors)) / expected.abs().max(), expected / expected.abs().max(), 1e-10
    )
    rotor = algebra.exponential(bivectors)
    unit = algebra.product(rotor, algebra.reversion(rotor))
    near(unit, algebra.identity(unit).expand_as(unit), 1e-9 * max(1.0, float(rotor.abs().max()) ** 2))


def test_right_multiplication() -> None:
    a, b = draw(5, 16), draw(5, 16, seed=1)
    near((algebra.right(b) @ a[..., None])[..., 0], algebra.product(a, b))


def test_v4_is_as_written_and_no_rotor() -> None:
    found = tokens.v4(4000, 0.3, generator())
    near(algebra.frobenius(found), torch.ones(4000, 1, dtype=torch.float64))
    whole = algebra.whole(found)
    near(whole[:, [1, 2, 3, 4, 11, 12, 13, 14]], torch.zeros(4000, 8, dtype=torch.float64))
    planes = found[:, 1:7]
    ratio = found[:, 0].square() + planes.square().sum(-1)  # cos^2 + sin^2, times the norm's square
    tilt = found[:, 7] / ratio.sqrt()
    assert float(tilt.std()) == pytest.approx(0.6, abs=0.03)
    angle = torch.atan2(planes.norm(dim=-1), found[:, 0])
    assert float(angle.square().mean().sqrt()) == pytest.approx(0.6, abs=0.04)
    unit = algebra.product(found, algebra.reversion(found))
    assert float(unit[:, -1].abs().mean()) > 0.01  # R rev(R) is not a number


def test_so4_are_rotations_spread_evenly() -> None:
    matrices = 2 * algebra.to_matrix(tokens.so4(3000, generator()))
    near(matrices @ matrices.mT, torch.eye(4, dtype=torch.float64).expand(3000, 4, 4))
    near(torch.linalg.det(matrices), torch.ones(3000, dtype=torch.float64))
    assert float(matrices.mean(0).abs().max()) < 0.05
    assert matrices.square().mean(0).flatten().tolist() == pytest.approx([0.25] * 16, abs=0.03)


def test_svd_and_class_tokens_keep_neighbours() -> None:
    vectors = draw(50, 9)
    vectors[1] = vectors[0] + 1e-3
    found = tokens.svd(vectors, 0.5)
    planes = torch.zeros(50, 8, dtype=torch.float64)
    planes[:, 1:7] = 0.5 * vectors[:, :6] / vectors[:, :6].std(0)
    expected = torch.linalg.matrix_exp(algebra.to_matrix(planes))
    near(algebra.to_matrix(found), expected / torch.linalg.matrix_norm(expected)[:, None, None], 1e-10)
    assert float((found[0] - found[1]).norm()) < 0.01 < float((found[0] - found[2]).norm())
    centroids, classes = draw(3, 6), torch.tensor([0, 1, 2, 0])
    of = tokens.of_classes(centroids, classes, generator())
    assert float((of[0] - of[3]).norm()) < float((of[0] - of[1]).norm())
    assert float((of[0] - of[3]).norm()) > 0


@SIZES
def test_a_context_is_grace_of_product_and_commutators(size: int) -> None:
    text, length = draw(9, size), 4
    found = contexts.contexts(text, length)
    for at in range(9):
        part = algebra.to_matrix(text[max(0, at + 1 - length) : at + 1])
        product = torch.eye(4, dtype=torch.float64)
        for each in part:
            product = product @ each
        turns = torch.zeros(4, 4, dtype=torch.float64)
        for before, after in itertools.pairwise(part):
            turns += (after @ before - before @ after) / 2
        matrix = product / torch.linalg.matrix_norm(product) + turns / math.sqrt(length - 1) / GOLDEN
        expected = algebra.grace(algebra.from_matrix(matrix))
        near(algebra.whole(found[at]) if size == 8 else found[at], expected, 1e-10)
    near(contexts.contexts(text, 1), algebra.grace(algebra.normalised(text)))


@SIZES
@pytest.mark.parametrize("every", [1, 2, 5])
def test_grace_on_the_way_is_the_loop(size: int, every: int) -> None:
    text = draw(2, 11, size)
    found = contexts.graced(text, every)
    for row in range(2):
        state = algebra.identity(text)
        for at in range(11):
            state = algebra.product(state, text[row, at])
            state = algebra.grace(state) if at % every == every - 1 else state
            near(found[row, at], algebra.normalised(state), 1e-10)


@SIZES
@pytest.mark.parametrize(("length", "every"), [(1, 1), (4, 1), (4, 2), (5, 3), (20, 2)])
def test_grace_within_windows_is_the_loop(size: int, length: int, every: int) -> None:
    text = draw(11, size)
    found = contexts.graced_window(text, length, every)
    for at in range(11):
        state = algebra.identity(text)
        for step, place in enumerate(range(at - length + 1, at + 1)):
            state = algebra.product(state, text[place]) if place >= 0 else state
            state = algebra.grace(state) if step % every == every - 1 else state
        near(found[at], algebra.normalised(state), 1e-10)


def test_turned_tokens_are_rotations_by_their_angles() -> None:
    planes = draw(20, 6)
    matrices = 2 * algebra.to_matrix(tokens.turned(planes))  # of norm 2 each, as rotations of four dimensions are
    near(matrices @ matrices.mT, torch.eye(4, dtype=torch.float64).expand(20, 4, 4), 1e-10)
    near(torch.linalg.det(matrices), torch.ones(20, dtype=torch.float64), 1e-10)
    angle = 0.7
    one = 2 * algebra.to_matrix(tokens.turned(torch.tensor([[angle, 0, 0, 0, 0, 0]], dtype=torch.float64)))[0]
    wanted = torch.eye(4, dtype=torch.float64)
    wanted[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64
    )
    near(one, wanted, 1e-12)


@SIZES
def test_scalars_by_hand(size: int) -> None:
    states = draw(30, size)
    whole = algebra.whole(states) if size == 8 else states
    near(contexts.witness(states), whole[:, [0, 15]])
    near(contexts.enstrophy(states), whole[:, 5:11].square().sum(-1))
    sigma = (whole[:, 0] ** 2 + whole[:, 15] ** 2) / whole.square().sum(-1)
    near(contexts.stability(states), sigma)
    near(contexts.salience(states), whole[:, 0].abs() + whole[:, 15].abs() / GOLDEN)
    counts = torch.arange(30) % 5
    wanted = [bool(s < 0.3819660112501051) or int(n) >= 3 for s, n in zip(sigma, counts, strict=True)]
    assert contexts.consolidates(states, counts.double()).tolist() == wanted
    pairs = [
        float(torch.cosine_similarity(one, two, dim=0))
        for number, one in enumerate(contexts.witness(states))
        for other, two in enumerate(contexts.witness(states))
        if number != other
    ]
    assert contexts.witness_stability(states) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert float(contexts.stability(torch.zeros(size))) == 0


def test_reversal_is_no_test_of_word_order_and_permutations_are() -> None:
    text = tokens.svd(draw(6, 6), 0.7)
    signature = commutator_sums(text, 6)[-1]
    assert float(contexts.similarity(signature, commutator_sums(text.flip(0), 6)[-1])) == pytest.approx(-1)
    swapped = commutator_sums(text[[0, 2, 1, 3, 5, 4]], 6)[-1]
    assert abs(float(contexts.similarity(signature, swapped))) < 0.99
