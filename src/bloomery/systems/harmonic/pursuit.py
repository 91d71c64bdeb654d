"""Orthogonal matching pursuit of every row of a matrix over one dictionary (Pati, Rezaiifar and Krishnaprasad 1993).

An entry of the dictionary is a small subspace (a cosine of any phase is two vectors). At each step a row takes the
entry that holds most of what is left of it, and its coefficients over all entries taken so far are solved anew: the
part of the chosen vectors that is new is added to an orthonormal basis of the row's own. Float64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

ROWS = 256
"""Worked on at a time, which bounds memory."""
NEGLIGIBLE = 1e-10
"""Of a unit vector, after what is known of it has been taken off."""


def pursue(
    rows: Float[Tensor, "o i"], dictionary: Float[Tensor, "d s i"], steps: int
) -> tuple[Int64[Tensor, "o k"], Float[Tensor, "o k s"]]:
    """(entries taken by each row, coefficients of their vectors)."""
    units = orthonormal(dictionary)
    parts = [_pursue(part, dictionary, units, steps) for part in rows.split(ROWS)]
    chosen, coefficients = zip(*parts, strict=True)
    return torch.cat(chosen), torch.cat(coefficients)


def _pursue(
    rows: Float[Tensor, "o i"], dictionary: Float[Tensor, "d s i"], units: Float[Tensor, "d s i"], steps: int
) -> tuple[Int64[Tensor, "o k"], Float[Tensor, "o k s"]]:
    count, inputs = rows.shape
    entries, vectors, _ = dictionary.shape
    left, known, chosen = rows.clone(), rows.new_zeros(count, 0, inputs), []
    for _ in range(steps):
        held = (left @ units.reshape(-1, inputs).t()).view(count, entries, vectors).square().sum(2)
        taken = held.argmax(1)
        chosen.append(taken)
        for vector in range(vectors):
            fresh = units[taken, vector]
            for _ in range(2):  # once is not enough for vectors that are nearly known
                fresh = fresh - torch.einsum("oki,ok->oi", known, torch.einsum("oki,oi->ok", known, fresh))
            size = torch.linalg.vector_norm(fresh, dim=1, keepdim=True)
            fresh = torch.where(size > NEGLIGIBLE, fresh / size.clamp_min(NEGLIGIBLE), 0.0)
            left = left - fresh * torch.linalg.vecdot(fresh, left)[:, None]
            known = torch.cat((known, fresh[:, None]), dim=1)
    indices = torch.stack(chosen, dim=1)
    basis = dictionary[indices].flatten(1, 2).transpose(1, 2)  # [o i ks]
    coefficients = torch.linalg.lstsq(basis, rows[:, :, None], driver="gelsd").solution
    return indices, coefficients.view(count, steps, vectors)


def orthonormal(dictionary: Float[Tensor, "d s i"]) -> Float[Tensor, "d s i"]:
    """Of every entry an orthonormal basis; what is linearly dependent becomes zero."""
    out: list[Tensor] = []
    whole = torch.linalg.vector_norm(dictionary, dim=2).amax(1, keepdim=True)
    for vector in dictionary.unbind(1):
        for known in out:
            vector = vector - known * torch.linalg.vecdot(known, vector)[:, None]
        size = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
        out.append(torch.where(size > 1e-6 * whole, vector / size.clamp_min(1e-300), 0.0))
    return torch.stack(out, dim=1)
