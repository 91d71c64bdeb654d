"""The Clifford algebra Cl(3,1) on coefficients, and its even subalgebra: e1, e2, e3 square to 1, e4 to -1.

A multivector is its 16 coefficients c [..., 16] in the order of grades 0 to 4 (1, 4, 6, 4, 1 of them, blades in
lexicographic order), or the 8 of grades 0, 2, 4, which products do not leave. Every function takes either. It is the
algebra of the real 4x4 matrices, M = sum_k c_k B_k with

    e1 = X (x) 1,  e2 = Z (x) 1,  e3 = J (x) J,  e4 = J (x) X,      X = [[0, 1], [1, 0]],  Z = diag(1, -1),  J = X Z:

the 16 products of these are orthogonal under trace(A^T B), each of squared norm 4. Transposing is not the reversion,
as e4^T = -e4. `commutator` is (a b - b a) / 2: of two vectors their wedge, in general not the exterior product.

Grace damps the grades by powers of the golden ratio, grade 4 as grade 1. It is linear
and no homomorphism: Grace(a b) is not Grace(a) Grace(b). Refuses other numbers of coefficients.
"""

from __future__ import annotations

import math
from functools import cache
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

GOLDEN = (1 + math.sqrt(5)) / 2
GRACE_POWERS = (0, 1, 2, 3, 1)
"""Of 1 / GOLDEN, for grades 0 to 4."""
REVERSION_SIGNS = (1, 1, -1, -1, 1)
FLOW_RATE = GOLDEN**-2
SQUARES = (1, 1, 1, -1)
BLADES = tuple(blade for grade in range(5) for blade in combinations(range(4), grade))
GRADES = tuple(len(blade) for blade in BLADES)
EVEN = tuple(number for number, grade in enumerate(GRADES) if grade % 2 == 0)


def blade_product(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Sign and blade of the product of two basis blades, by bringing the generators into order one swap at a time."""
    sign, generators = 1, [*one, *two]
    for end in range(len(generators), 0, -1):
        for at in range(end - 1):
            if generators[at] > generators[at + 1]:
                generators[at], generators[at + 1] = generators[at + 1], generators[at]
                sign = -sign
    left: list[int] = []
    for each in generators:
        if left and left[-1] == each:
            sign *= SQUARES[left.pop()]
        else:
            left.append(each)
    return sign, tuple(left)


class Table(NamedTuple):
    """(a b)_k = sum_j L(a)[k, j] b_j with L(a)[k, j] = sign[k, j] a[factor[k, j]]; and each coefficient's grade."""

    sign: Float[Tensor, "n n"]
    factor: Tensor
    grades: Tensor


@cache
def _table(size: int, dtype: torch.dtype, device: torch.device) -> Table:
    if size not in (8, 16):
        raise ValueError(f"{size} coefficients: 16 are a multivector, 8 an even one")
    numbers = EVEN if size == 8 else tuple(range(16))
    place = {BLADES[number]: at for at, number in enumerate(numbers)}
    sign, factor = torch.zeros(size, size, dtype=dtype), torch.zeros(size, size, dtype=torch.int64)
    for one, first in place.items():
        for two, second in place.items():
            value, blade = blade_product(one, two)
            sign[place[blade], second] = value
            factor[place[blade], second] = first
    grades = torch.tensor([GRADES[number] for number in numbers])
    return Table(sign.to(device), factor.to(device), grades.to(device))


def _table_of(a: Float[Tensor, "... n"]) -> Table:
    return _table(a.shape[-1], a.dtype, a.device)


def left(a: Float[Tensor, "... n"]) -> Float[Tensor, "... n n"]:
    """L(a), the matrix of b -> a b on coefficients."""
    table = _table_of(a)
    return a[..., table.factor] * table.sign


def right(b: Float[Tensor, "... n"]) -> Float[Tensor, "... n n"]:
    """R(b), the matrix of a -> a b on coefficients."""
    blades = torch.eye(b.shape[-1], dtype=b.dtype, device=b.device)
    return product(blades, b[..., None, :]).mT


def product(a: Float[Tensor, "... n"], b: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """The geometric product."""
    return (left(a) @ b[..., None])[..., 0]


def commutator(a: Float[Tensor, "... n"], b: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """(a b - b a) / 2."""
    return (product(a, b) - product(b, a)) / 2


def grade(a: Float[Tensor, "... n"], number: int) -> Float[Tensor, "... n"]:
    """The part of one grade."""
    return a * (_table_of(a).grades == number)


def reversion(a: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """The generators of every blade in reverse: rev(a b) = rev(b) rev(a)."""
    return a * _by_grade(a, REVERSION_SIGNS)


def _by_grade(a: Tensor, values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values, dtype=a.dtype, device=a.device)[_table_of(a).grades]


def identity(like: Float[Tensor, "... n"]) -> Float[Tensor, " n"]:
    """The scalar 1."""
    one = torch.zeros(like.shape[-1], dtype=like.dtype, device=like.device)
    one[0] = 1
    return one


def inverse(a: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """b with a b = b a = 1; not finite, or a torch error, where there is none.

    Of an even one in closed form: a rev(a) = x + y e1234, which multiply as complex numbers.
    """
    if a.shape[-1] == 16:
        return torch.linalg.solve(left(a), identity(a).expand_as(a))
    back = reversion(a)
    norm = product(a, back)
    x, y = norm[..., :1], norm[..., -1:]
    conjugate = torch.cat((x, torch.zeros_like(a[..., 1:-1]), -y), dim=-1) / (x * x + y * y)
    return product(back, conjugate)


def exponential(bivector: Float[Tensor, "... 8"]) -> Float[Tensor, "... 8"]:
    """exp of the bivector part of an even multivector, in closed form.

    Its square z is scalar and e1234 part only, a complex number, so exp(B) = cosh(sqrt z) + sinh(sqrt z) / sqrt(z) B.
    """
    part = grade(bivector, 2)
    square = product(part, part)
    z = torch.complex(square[..., 0], square[..., -1])
    root = torch.sqrt(z)
    small = root.abs() < 1e-4
    ratio = torch.where(small, 1 + z / 6, torch.sinh(root) / torch.where(small, torch.ones_like(root), root))
    return _complex(torch.cosh(root), part) + product(_complex(ratio, part), part)


def _complex(value: Tensor, like: Tensor) -> Tensor:
    """x + y e1234 as an even multivector."""
    out = torch.zeros_like(like)
    out[..., 0], out[..., -1] = value.real, value.imag
    return out


def whole(a: Float[Tensor, "... 8"]) -> Float[Tensor, "... 16"]:
    """An even multivector among all."""
    out = torch.zeros(*a.shape[:-1], 16, dtype=a.dtype, device=a.device)
    out[..., list(EVEN)] = a
    return out


def frobenius(a: Float[Tensor, "... n"]) -> Float[Tensor, "... 1"]:
    """The Frobenius norm of the matrix: twice the coefficients' own."""
    return 2 * torch.linalg.vector_norm(a, dim=-1, keepdim=True)


def normalised(a: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    """Of Frobenius norm 1; zero stays zero."""
    norm = frobenius(a)
    return a / torch.where(norm > 0, norm, torch.ones_like(norm))


def grace_scale(a: Float[Tensor, "... n"]) -> Float[Tensor, " n"]:
    """What Grace multiplies each coefficient with."""
    return _by_grade(a, tuple(GOLDEN**-power for power in GRACE_POWERS))


def grace(a: Float[Tensor, "... n"]) -> Float[Tensor, "... n"]:
    return a * grace_scale(a)


def flow(
    state: Float[Tensor, "... n"], attractor: Float[Tensor, "... n"], steps: int, rate: float = FLOW_RATE
) -> Float[Tensor, "... n"]:
    """`steps` times: state <- (1 - rate) Grace(state) + rate attractor. In closed form, no loop."""
    keep = (1 - rate) * grace_scale(state)
    fixed = fixed_point(attractor, rate)
    return fixed + keep**steps * (state - fixed)


def fixed_point(attractor: Float[Tensor, "... n"], rate: float = FLOW_RATE) -> Float[Tensor, "... n"]:
    """Where the flow ends from anywhere: rate / (1 - (1 - rate) s) of each coefficient of the attractor, so that
    "evolving to equilibrium" is a fixed rescaling of the grades."""
    return attractor * rate / (1 - (1 - rate) * grace_scale(attractor))


def basis() -> Float[Tensor, "16 4 4"]:
    """The matrices B_k in float64: the reference of all of this."""
    x, z = torch.tensor([[0.0, 1], [1, 0]]), torch.diag(torch.tensor([1.0, -1]))
    j, one = x @ z, torch.eye(2)
    generators = [torch.kron(*pair).double() for pair in ((x, one), (z, one), (j, j), (j, x))]
    matrices = []
    for blade in BLADES:
        matrix = torch.eye(4, dtype=torch.float64)
        for generator in blade:
            matrix = matrix @ generators[generator]
        matrices.append(matrix)
    return torch.stack(matrices)


def to_matrix(a: Float[Tensor, "... n"]) -> Float[Tensor, "... 4 4"]:
    """sum_k c_k B_k."""
    return torch.einsum("...k,kij->...ij", a, _basis_of(a))


def from_matrix(matrix: Float[Tensor, "... 4 4"]) -> Float[Tensor, "... 16"]:
    """c_k = trace(B_k^T M) / 4."""
    return torch.einsum("kij,...ij->...k", basis().to(matrix), matrix) / 4


def _basis_of(a: Tensor) -> Tensor:
    found = basis()
    return (found[list(EVEN)] if _table_of(a).grades.numel() == 8 else found).to(a)
