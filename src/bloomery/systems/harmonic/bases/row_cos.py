"""RowCosLinear: rows of cosines over the index whose frequencies cover the whole band (spec 2.1).

    atom(i) = sqrt(2 / in) cos(2 pi f x + phase),  x = (i + 1/2) / in - 1/2

f is in cycles per row, drawn uniformly from 0 to in / 2: low ones alone would make rows smooth in an index that has no
order. x is centred so that f and phase do not move together; its deviation is 12^-1/2, hence f's natural scale
12^1/2 / (2 pi).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.systems.harmonic.bases.rows import Atoms, RowLinear
from bloomery.systems.harmonic.kernels.atoms import RowKernel

TURN = 2.0 * math.pi
FREQUENCY_SCALE = math.sqrt(12.0) / TURN


@dataclass(frozen=True, slots=True)
class Cosines(Atoms):
    inputs: int

    def angle(
        self, frequency: Float[Tensor, " o"], phase: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, " i"]]:
        """(2 pi f x + phase, 2 pi x)."""
        index = torch.arange(self.inputs, device=phase.device, dtype=phase.dtype)
        turns = TURN * ((index + 0.5) / self.inputs - 0.5)
        return torch.addcmul(phase[:, None], frequency[:, None], turns), turns

    def atom(self, *places: Float[Tensor, " o"]) -> Float[Tensor, "o i"]:
        angle, _ = self.angle(*places)
        return torch.cos(angle) * math.sqrt(2.0 / self.inputs)

    def kernel(self) -> RowKernel:
        return RowKernel("cos", self.inputs)

    def slopes(
        self, weight_gradient: Float[Tensor, "o i"], *places: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"], tuple[Float[Tensor, " o"], ...]]:
        angle, turns = self.angle(*places)
        atom = torch.cos(angle) * math.sqrt(2.0 / self.inputs)
        into_angle = weight_gradient * torch.sin(angle) * -math.sqrt(2.0 / self.inputs)
        slopes = (into_angle @ turns, into_angle.sum(1))
        return atom, torch.linalg.vecdot(weight_gradient, atom), slopes


class RowCosLinear(RowLinear):
    def __init__(
        self, inputs: int, outputs: int, atoms: int, *, gain: float = 1.0, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        places = {"frequency": FREQUENCY_SCALE, "phase": 1.0}
        super().__init__(inputs, outputs, Cosines(inputs), places, atoms=atoms, gain=gain, compute_dtype=compute_dtype)

    def place(self, generator: torch.Generator | None) -> None:
        cast(nn.Parameter, self.frequency).uniform_(0.0, self.inputs / 2, generator=generator)
        cast(nn.Parameter, self.phase).uniform_(0.0, TURN, generator=generator)

    def dictionary(self) -> dict[str, Tensor]:
        """The frequencies of the discrete Fourier transform: without a covariance they are orthogonal."""
        return {"frequency": torch.arange(self.inputs // 2 + 1).double()}
