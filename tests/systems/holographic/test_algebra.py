"""Cl(3,1) on coefficients against explicit 4x4 matrices in float64, and the identities that hold or do not."""

import math

import pytest
import torch
from torch import Tensor

from bloomery.systems.holographic import algebra
from bloomery.systems.holographic.chains import commutator_sums, scan, window, windows

SIZES = pytest.mark.parametrize("size", [8, 16])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def near(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < tolerance


def test_the_generators_have_their_squares_and_anticommute() -> None:
    vectors = algebra.basis()[1:5]
    for one in range(4):
        for two in range(4):
            both = vectors[one] @ vectors[two] + vectors[two] @ vectors[one]
            near(both, 2 * (one == two) * algebra.SQUARES[one] * torch.eye(4, dtype=torch.float64))


def test_the_basis_is_orthogonal_and_whole() -> None:
    basis = algebra.basis()
    near(torch.einsum("aij,bij->ab", basis, basis), 4 * torch.eye(16, dtype=torch.float64))
    assert algebra.GRADES == (0,) + (1,) * 4 + (2,) * 6 + (3,) * 4 + (4,)
    matrices = draw(5, 4, 4)
    near(algebra.to_matrix(algebra.from_matrix(matrices)), matrices)


@SIZES
def test_products_are_those_of_the_matrices(size: int) -> None:
    a, b = draw(3, 7, size), draw(7, size, seed=1)
    one, two = algebra.to_matrix(a), algebra.to_matrix(b)
    near(algebra.to_matrix(algebra.product(a, b)), one @ two)
    near(algebra.to_matrix(algebra.commutator(a, b)), (one @ two - two @ one) / 2)
    near(algebra.left(a) @ b[..., None], algebra.product(a, b)[..., None])


def test_even_multivectors_stay_among_themselves() -> None:
    a, b = draw(9, 8), draw(9, 8, seed=1)
    near(algebra.whole(algebra.product(a, b)), algebra.product(algebra.whole(a), algebra.whole(b)))
    near(algebra.to_matrix(a), algebra.to_matrix(algebra.whole(a)))
    near(algebra.whole(algebra.inverse(a)), algebra.inverse(algebra.whole(a)), 1e-9)


@SIZES
def test_inverses(size: int) -> None:
    a = draw(20, size)
    matrices = torch.linalg.inv(algebra.to_matrix(a))
    near(algebra.to_matrix(algebra.inverse(a)) / matrices.abs().max(), matrices / matrices.abs().max(), 1e-9)


@SIZES
def test_reversion_reverses_products_and_is_not_the_transpose(size: int) -> None:
    a, b = draw(6, size), draw(6, size, seed=1)
    reverse = algebra.reversion
    near(reverse(algebra.product(a, b)), algebra.product(reverse(b), reverse(a)))
    near(reverse(reverse(a)), a)
    e4 = algebra.basis()[4]
    near(e4.T, -e4)
    fourth = torch.eye(16, dtype=torch.float64)[4]
    near(algebra.reversion(fourth), fourth)
    transposed = algebra.from_matrix(algebra.to_matrix(algebra.whole(a) if size == 8 else a).mT)
    assert float((transposed - (algebra.whole(reverse(a)) if size == 8 else reverse(a))).abs().max()) > 0.1


@SIZES
def test_grades_add_up_and_commutators_of_vectors_are_bivectors(size: int) -> None:
    a = draw(6, size)
    near(sum((algebra.grade(a, number) for number in range(5)), torch.zeros_like(a)), a)
    if size == 16:
        u, v = algebra.grade(draw(6, 16), 1), algebra.grade(draw(6, 16, seed=1), 1)
        near(algebra.commutator(u, v), algebra.grade(algebra.product(u, v), 2))


@SIZES
def test_grace_damps_grades_is_linear_and_no_homomorphism(size: int) -> None:
    a, b = draw(6, size), draw(6, size, seed=1)
    golden = (1 + math.sqrt(5)) / 2
    by_hand = sum(
        (algebra.grade(a, number) / golden**power for number, power in enumerate((0, 1, 2, 3, 1))), torch.zeros_like(a)
    )
    near(algebra.grace(a), by_hand)
    near(algebra.grace(2 * a - 3 * b), 2 * algebra.grace(a) - 3 * algebra.grace(b))
    apart = algebra.grace(algebra.product(a, b)) - algebra.product(algebra.grace(a), algebra.grace(b))
    assert float(apart.abs().max()) > 0.1


@SIZES
def test_the_flow_is_its_loop_and_ends_at_the_fixed_point(size: int) -> None:
    start, attractor = draw(6, size), draw(6, size, seed=1)
    state, rate = start, algebra.GOLDEN**-2
    for steps in range(8):
        near(algebra.flow(start, attractor, steps), state)
        state = (1 - rate) * algebra.grace(state) + rate * attractor
    fixed = algebra.fixed_point(attractor)
    near((1 - rate) * algebra.grace(fixed) + rate * attractor, fixed)
    near(algebra.flow(start, attractor, 200), fixed)
    near(algebra.fixed_point(3 * attractor), 3 * fixed)


@SIZES
def test_normalised_is_of_frobenius_norm_one(size: int) -> None:
    a = draw(6, size)
    near(algebra.frobenius(a)[:, 0], torch.linalg.matrix_norm(algebra.to_matrix(a)))
    near(torch.linalg.matrix_norm(algebra.to_matrix(algebra.normalised(a))), torch.ones(6, dtype=torch.float64))
    near(algebra.normalised(torch.zeros(2, size)), torch.zeros(2, size))


def loop(factors: Tensor, start: int, stop: int) -> Tensor:
    """The product of factors[start:stop] by matrices, of norm 1."""
    matrix = torch.eye(4, dtype=torch.float64)
    for each in algebra.to_matrix(factors[start:stop]):
        matrix = matrix @ each
        matrix = matrix / torch.linalg.matrix_norm(matrix)
    return matrix


@SIZES
@pytest.mark.parametrize("length", [1, 2, 5, 13, 16])
def test_scan_doubling_and_recurrence_are_the_loop(size: int, length: int) -> None:
    factors = draw(13, size)
    prefixes, one, all_ = scan(factors), window(factors, length), windows(factors, length)
    assert all_.shape == (length, 13, size)
    for at in range(13):
        near(algebra.to_matrix(prefixes[at]), loop(factors, 0, at + 1), 1e-10)
        near(algebra.to_matrix(one[at]), loop(factors, max(0, at + 1 - length), at + 1), 1e-10)
        for shorter in range(1, length + 1):
            near(algebra.to_matrix(all_[shorter - 1, at]), loop(factors, max(0, at + 1 - shorter), at + 1), 1e-10)


def test_chains_of_several_texts_do_not_touch() -> None:
    factors = draw(3, 9, 8)
    near(window(factors, 4)[1], window(factors[1], 4))
    near(windows(factors, 3)[:, 2], windows(factors[2], 3))
    near(scan(factors)[0], scan(factors[0]))
    changed = factors.clone()
    changed[:, 6:] = 0.5
    near(scan(changed)[:, :6], scan(factors)[:, :6])


def test_long_chains_neither_vanish_nor_overflow() -> None:
    factors = 1e-3 * draw(3000, 8).float()
    found = scan(factors)
    assert bool(torch.isfinite(found).all())
    assert float((algebra.frobenius(found) - 1).abs().max()) < 1e-4


@SIZES
@pytest.mark.parametrize("length", [2, 3, 9, 20])
def test_commutator_sums_are_those_of_each_window(size: int, length: int) -> None:
    factors = draw(12, size)
    found, matrices = commutator_sums(factors, length), algebra.to_matrix(factors)
    for at in range(12):
        total = torch.zeros(4, 4, dtype=torch.float64)
        for later in range(max(1, at - length + 2), at + 1):
            total += (matrices[later] @ matrices[later - 1] - matrices[later - 1] @ matrices[later]) / 2
        near(algebra.to_matrix(found[at]), total / math.sqrt(length - 1), 1e-10)


def test_reversed_words_have_the_opposite_commutators() -> None:
    """So that reversing a text tests nothing: the cosine is -1 whatever the matrices are. Permute instead."""
    factors = draw(7, 16)
    near(commutator_sums(factors.flip(0), 7)[-1], -commutator_sums(factors, 7)[-1])


def test_other_numbers_of_coefficients_are_refused() -> None:
    with pytest.raises(ValueError, match="12 coefficients"):
        algebra.product(torch.ones(12), torch.ones(12))
