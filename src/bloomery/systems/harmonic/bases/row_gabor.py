"""RowGaborLinear: rows of Gaussians times cosines over the index (Gabor atoms, spec 1.1).

    atom(i) = sqrt(2) n exp(-u^2 / 2) cos(theta),  theta = 2 pi f (i - c) + phase,  u and n as in row_gauss.py

The squares sum to one up to exp(-(2 pi f s)^2) (row norms are exact at the start all the same). f is in cycles per
index step, drawn from 0 to 1/2; under a bell of width s0 a change of 1 / (sqrt(2) pi s0) turns the phase at its flanks
by about one, hence its natural scale. theta counts from the centre, so that f and phase do not move together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.systems.harmonic.bases.row_cos import TURN
from bloomery.systems.harmonic.bases.row_gauss import LOG_WIDTH_SCALE, Gaussians, bell
from bloomery.systems.harmonic.bases.rows import WIDTHS, Atoms, AtomWidth, RowLinear, grid, initial_width
from bloomery.systems.harmonic.kernels.atoms import RowKernel


@dataclass(frozen=True, slots=True)
class Gabors(Atoms):
    inputs: int
    unit: float

    def parts(
        self, centre: Tensor, log_width: Tensor, frequency: Tensor, phase: Tensor
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, "o 1"], Float[Tensor, "o i"], Float[Tensor, "o i"]]:
        """(u, s, sqrt(2) n exp(-u^2 / 2), theta)."""
        distance, width = Gaussians(self.inputs, self.unit).distance(centre, log_width)
        angle = phase[:, None] + (TURN * frequency[:, None] * width) * distance
        return distance, width, bell(distance, width) * math.sqrt(2.0), angle

    def atom(self, *places: Float[Tensor, " o"]) -> Float[Tensor, "o i"]:
        _, _, envelope, angle = self.parts(*places)
        return envelope * torch.cos(angle)

    def kernel(self) -> RowKernel:
        return RowKernel("gabor", self.inputs, self.unit)

    def slopes(
        self, weight_gradient: Float[Tensor, "o i"], *places: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"], tuple[Float[Tensor, " o"], ...]]:
        distance, width, envelope, angle = self.parts(*places)
        atom = envelope * torch.cos(angle)
        moment = weight_gradient * atom
        into_amplitude = moment.sum(1)
        moment = moment * distance
        into_angle = weight_gradient * envelope * -torch.sin(angle)
        into_phase = into_angle.sum(1)
        frequency = places[2]
        into_centre = self.unit * (moment.sum(1) / width[:, 0] - into_phase * (TURN * frequency))
        into_width = torch.linalg.vecdot(moment, distance) - 0.5 * into_amplitude
        into_frequency = torch.linalg.vecdot(into_angle, distance) * (TURN * width[:, 0])
        return atom, into_amplitude, (into_centre, into_width, into_frequency, into_phase)


class RowGaborLinear(RowLinear):
    def __init__(
        self, inputs: int, outputs: int, atoms: int, *, atom_width: AtomWidth = "narrow", gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        unit = initial_width(atom_width, inputs, atoms)
        places = {
            "centre": 1.0, "log_width": LOG_WIDTH_SCALE,
            "frequency": 1.0 / (math.sqrt(2.0) * math.pi * unit), "phase": 1.0,
        }  # fmt: skip
        super().__init__(
            inputs, outputs, Gabors(inputs, unit), places, atoms=atoms, gain=gain, compute_dtype=compute_dtype
        )
        self.unit = unit

    def place(self, generator: torch.Generator | None) -> None:
        cast(nn.Parameter, self.centre).uniform_(-0.5 / self.unit, (self.inputs - 0.5) / self.unit, generator=generator)
        cast(nn.Parameter, self.log_width).zero_()
        cast(nn.Parameter, self.frequency).uniform_(0.0, 0.5, generator=generator)
        cast(nn.Parameter, self.phase).uniform_(0.0, TURN, generator=generator)

    def dictionary(self) -> dict[str, Tensor]:
        """Four widths and four frequencies at every index."""
        return grid(centre=torch.arange(self.inputs).double() / self.unit,
                    log_width=(torch.tensor(WIDTHS[1:5]).double() / self.unit).log(),
                    frequency=torch.tensor([0.0, 0.125, 0.25, 0.375]).double())  # fmt: skip
