"""Metric: how far two matrices are apart, |W - W'|^2 = E |(W - W') x|^2 over inputs x of covariance C.

With C = S S, S symmetric, that is the Frobenius norm of (W - W') S: whoever can fit W S can fit W in this metric.
Without a covariance S is the identity. Directions in which no input lies (eigenvalues below 1e-12 of the largest) cost
nothing and are left out by `undo`. Refuses a covariance that is not symmetric and positive semidefinite.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.errors import TrainingError

CUT = 1e-12


@dataclass(frozen=True, slots=True)
class Metric:
    """root and its pseudo-inverse; None for the identity."""

    root: Float[Tensor, "i i"] | None = None
    inverse: Float[Tensor, "i i"] | None = None
    covariance: Float[Tensor, "i i"] | None = None

    @staticmethod
    def of(covariance: Float[Tensor, "i i"] | None) -> Metric:
        """covariance: E x x^T of the layer's inputs, up to a factor; float64 is made of it. Raises TrainingError."""
        if covariance is None:
            return Metric()
        covariance = covariance.double()
        values, vectors = torch.linalg.eigh((covariance + covariance.t()) / 2)
        slack = 1e-6 * float(values[-1])
        if float((covariance - covariance.t()).abs().max()) > slack or float(values[0]) < -slack or slack <= 0:
            found = f"least eigenvalue {float(values[0]):.3g}, largest {float(values[-1]):.3g}"
            raise TrainingError("covariance", found, "a symmetric matrix without negative eigenvalues")
        roots = values.clamp_min(0.0).sqrt()
        kept = values > CUT * values[-1]
        inverses = torch.where(kept, roots.clamp_min(1e-300).reciprocal(), 0.0)
        return Metric((vectors * roots) @ vectors.t(), (vectors * inverses) @ vectors.t(), covariance)

    def apply(self, rows: Float[Tensor, "... i"]) -> Float[Tensor, "... i"]:
        """rows S."""
        return rows if self.root is None else rows @ self.root

    def undo(self, rows: Float[Tensor, "... i"]) -> Float[Tensor, "... i"]:
        """rows S^-1."""
        return rows if self.inverse is None else rows @ self.inverse

    def part(self, start: int, stop: int) -> Metric:
        """Of the inputs start ... stop - 1 alone, as if no other moved with them."""
        return Metric() if self.covariance is None else Metric.of(self.covariance[start:stop, start:stop])

    def variances(self, inputs: int) -> Float[Tensor, " i"]:
        """Of every input."""
        return torch.ones(inputs, dtype=torch.float64) if self.covariance is None else self.covariance.diagonal()

    def unexplained(self, weight: Float[Tensor, "o i"], found: Float[Tensor, "o i"]) -> float:
        """|W - W'|^2 / |W|^2: the share of the outputs' energy that `found` misses."""
        weight, found = weight.double(), found.double()
        return float(self.apply(weight - found).square().sum() / self.apply(weight).square().sum())
