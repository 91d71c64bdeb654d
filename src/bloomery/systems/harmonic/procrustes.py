"""Blending rows of a trained matrix with rows that corpus statistics give, in one basis.

A model whose embedding, head and blocks are turned together is the same model, so a trained embedding stands in a basis
of its own: its cosine with any independent row is near N(0, 1/width), and a rule such as "cosine below 0.5" fires for
nearly every token and blends in noise. Orthogonal Procrustes (Schoenemann 1966) turns the derived rows first:

    R = argmin |S R - T| over R^T R = 1,    R = U V^T of the singular values S^T T = U D V^T

Then, for every row whose cosine with its aligned derivation is below the bar,  row <- (1 - share) row + share derived.
Refuses nothing: shapes are those of one model.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def rotation(source: Float[Tensor, "v d"], target: Float[Tensor, "v d"]) -> Float[Tensor, "d d"]:
    """The orthogonal matrix that brings `source` closest to `target`, reflections included; in float64."""
    left, _, right = torch.linalg.svd(source.double().T @ target.double())
    return left @ right


def cosines(one: Float[Tensor, "v d"], other: Float[Tensor, "v d"]) -> Float[Tensor, " v"]:
    return torch.nn.functional.cosine_similarity(one, other, dim=1)


def blend(
    trained: Float[Tensor, "v d"], derived: Float[Tensor, "v d"], *, share: float, below: float
) -> tuple[Float[Tensor, "v d"], Bool[Tensor, " v"]]:
    """(the blend, which rows it changed). Rows whose cosine is `below` or more are `trained`, bit by bit."""
    chosen = cosines(trained, derived) < below
    mixed = (1.0 - share) * trained + share * derived
    return torch.where(chosen[:, None], mixed, trained), chosen
