"""A multivector for every token, in several ways; all of Frobenius norm 1.

v4     cos(t) + sin(t) b + p e1234, b a random unit bivector, t and p of standard deviation 2 noise: the theory as
       written. No rotors, though it calls them so: boosts square to +1 and would need cosh and sinh, and the last
       term breaks R rev(R) = 1
so4    random rotations of four dimensions, uniform (Haar), from two unit quaternions: a hash, with no neighbours
svd    exp of a bivector: the six leading coordinates of the token's vector (of positive pointwise mutual
       information, say), each scaled to standard deviation `spread`
class  exp of the class's centroid and a little noise of the token's own

exp of six numbers is an even multivector (`rotors`: three of its planes are boosts), or a rotation of four dimensions
(`turned`), the matrix exponential of an antisymmetric matrix, as the theory's successor grounds its tokens.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bloomery.systems.holographic.algebra import EVEN, GRADES, exponential, from_matrix, normalised

BIVECTORS = tuple(at for at, number in enumerate(EVEN) if GRADES[number] == 2)
OWN_NOISE = 0.1
"""Of a token, beside its class's centroid."""


def v4(vocab: int, noise: float, generator: torch.Generator) -> Float[Tensor, "v 8"]:
    """noise: the seed's --noise-std."""
    planes = _normal((vocab, 6), generator)
    planes = planes / torch.linalg.vector_norm(planes, dim=-1, keepdim=True)
    angles, tilts = 2 * noise * _normal((2, vocab), generator)
    scalar, last = torch.cos(angles)[:, None], tilts[:, None]
    return normalised(torch.cat((scalar, torch.sin(angles)[:, None] * planes, last), dim=-1))


def so4(vocab: int, generator: torch.Generator) -> Float[Tensor, "v 16"]:
    """x -> q x r of unit quaternions q and r."""
    pairs = _normal((2, vocab, 4), generator)
    q, r = pairs / torch.linalg.vector_norm(pairs, dim=-1, keepdim=True)
    return normalised(from_matrix(_from_left(q) @ _from_right(r)))


def svd(vectors: Float[Tensor, "v d"], spread: float) -> Float[Tensor, "v 8"]:
    """vectors: the leading coordinates first, six at least."""
    leading = vectors[:, :6]
    return rotors(spread * leading / leading.std(0).clamp_min(1e-12))


def of_classes(
    centroids: Float[Tensor, "classes 6"],
    classes: Int[Tensor, " v"],
    generator: torch.Generator,
    *,
    rotations: bool = False,
) -> Float[Tensor, "v n"]:
    """classes: that of each token. n is 8, of rotations 16."""
    planes = centroids[classes] + OWN_NOISE * _normal((len(classes), 6), generator).to(centroids)
    return turned(planes) if rotations else rotors(planes)


def turned(planes: Float[Tensor, "v 6"]) -> Float[Tensor, "v 16"]:
    """Rotations by these angles in the planes 12, 13, 14, 23, 24, 34."""
    rows, columns = torch.triu_indices(4, 4, 1).unbind()
    skew = torch.zeros(len(planes), 4, 4, dtype=planes.dtype, device=planes.device)
    skew[:, rows, columns], skew[:, columns, rows] = -planes, planes
    return normalised(from_matrix(torch.linalg.matrix_exp(skew)))


def rotors(planes: Float[Tensor, "v 6"]) -> Float[Tensor, "v 8"]:
    bivectors = torch.zeros(len(planes), 8, dtype=planes.dtype, device=planes.device)
    bivectors[:, list(BIVECTORS)] = planes
    return normalised(exponential(bivectors))


def _normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _from_left(q: Float[Tensor, "v 4"]) -> Float[Tensor, "v 4 4"]:
    """The matrix of x -> q x."""
    a, b, c, d = q.unbind(-1)
    rows = ((a, -b, -c, -d), (b, a, -d, c), (c, d, a, -b), (d, -c, b, a))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def _from_right(r: Float[Tensor, "v 4"]) -> Float[Tensor, "v 4 4"]:
    """The matrix of x -> x r."""
    a, b, c, d = r.unbind(-1)
    rows = ((a, -b, -c, -d), (b, a, d, -c), (c, -d, a, b), (d, c, -b, a))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
