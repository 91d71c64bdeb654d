"""RowGaussLinear: rows of Gaussians over the index, the seed's literal form (spec 1.1).

    atom(i) = n exp(-u^2 / 2),  u = (i - c) / s,  n = (sqrt(pi) s)^-1/2
    d/dc = atom u / s,  d/dlog s = atom (u^2 - 1/2)

`centre` is c in units of the initial width s0 and `log_width` is log(s / s0): steps of one and of 0.3 then change an
atom by as much as its amplitude's scale does (Gauss-Newton curvatures 1, a^2 / 2 and 3/4 a^2). An atom sees no gradient
farther away than about 3 s, so narrow ones stay where they were drawn: uniformly over the row.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.systems.harmonic.bases.rows import WIDTHS, Atoms, AtomWidth, RowLinear, grid, initial_width
from bloomery.systems.harmonic.kernels.atoms import RowKernel

LOG_WIDTH_SCALE = 0.3


@dataclass(frozen=True, slots=True)
class Gaussians(Atoms):
    inputs: int
    unit: float
    """The initial width in index steps."""

    def distance(
        self, centre: Float[Tensor, " o"], log_width: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, "o 1"]]:
        """(u, s) with s in index steps."""
        width = (self.unit * torch.exp(log_width))[:, None]
        index = torch.arange(self.inputs, device=centre.device, dtype=centre.dtype)
        return (index - self.unit * centre[:, None]) / width, width

    def atom(self, *places: Float[Tensor, " o"]) -> Float[Tensor, "o i"]:
        distance, width = self.distance(*places)
        return bell(distance, width)

    def kernel(self) -> RowKernel:
        return RowKernel("gauss", self.inputs, self.unit)

    def slopes(
        self, weight_gradient: Float[Tensor, "o i"], *places: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"], tuple[Float[Tensor, " o"], ...]]:
        distance, width = self.distance(*places)
        atom = bell(distance, width)
        moment = weight_gradient * atom
        into_amplitude = moment.sum(1)
        moment = moment * distance
        into_centre = moment.sum(1) * (self.unit / width[:, 0])
        into_width = torch.linalg.vecdot(moment, distance) - 0.5 * into_amplitude
        return atom, into_amplitude, (into_centre, into_width)


def bell(distance: Float[Tensor, "o i"], width: Float[Tensor, "o 1"]) -> Float[Tensor, "o i"]:
    """exp(-u^2 / 2), its squares summing to one over an unbounded index."""
    return torch.exp(-0.5 * distance.square()) * (math.sqrt(math.pi) * width).rsqrt()


class RowGaussLinear(RowLinear):
    def __init__(
        self, inputs: int, outputs: int, atoms: int, *, atom_width: AtomWidth = "narrow", gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        unit = initial_width(atom_width, inputs, atoms)
        places = {"centre": 1.0, "log_width": LOG_WIDTH_SCALE}
        super().__init__(
            inputs, outputs, Gaussians(inputs, unit), places, atoms=atoms, gain=gain, compute_dtype=compute_dtype
        )
        self.unit = unit

    def place(self, generator: torch.Generator | None) -> None:
        cast(nn.Parameter, self.centre).uniform_(-0.5 / self.unit, (self.inputs - 0.5) / self.unit, generator=generator)
        cast(nn.Parameter, self.log_width).zero_()

    def dictionary(self) -> dict[str, Tensor]:
        """Six widths at every index."""
        return grid(centre=torch.arange(self.inputs).double() / self.unit,
                    log_width=(torch.tensor(WIDTHS).double() / self.unit).log())  # fmt: skip
