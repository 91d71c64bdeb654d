"""RowScaleSpaceLinear: rows of Gaussians, looked up in the input's Gaussian scale-space (kernels/scale_space.py).

    atom(i) = n sum over the four corners of (c, s) of share * G_l(i - j),  n = (4 pi)^1/4 s^1/2

G_l is the Gaussian of area one and width 0.5 * 2^l index steps, j whole positions, and the shares are bilinear in c and
log s (spec 1.4). Up to that interpolation it is row_gauss, in its coordinates. What it is for is one vector at a time:
that is blurred once, and every atom, whatever its width, is one look-up. Centres beyond the ends and widths beyond the
levels are moved to the edge, where they have no gradient.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.systems.harmonic.bases.row_gauss import LOG_WIDTH_SCALE
from bloomery.systems.harmonic.bases.rows import NARROW, Atoms, RowLinear, grid
from bloomery.systems.harmonic.kernels.rows import ScaleSpaceDecode
from bloomery.systems.harmonic.kernels.scale_space import Levels, between
from bloomery.systems.harmonic.layers import Packed

SMALLEST, RATIO, MOST = 0.5, 2.0, 8
"""Of the widths: the narrowest in index steps, from one to the next, and how many (the kernel's tables hold eight)."""


def levels_for(inputs: int) -> Levels:
    """Up to about the length of a row."""
    return Levels(SMALLEST, RATIO, min(MOST, max(2, 1 + round(math.log(inputs / SMALLEST, RATIO)))))


Corners = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True)
class Interpolated(Atoms):
    inputs: int
    levels: Levels

    def atom(self, *places: Float[Tensor, " o"]) -> Float[Tensor, "o i"]:
        centre, level, norm = self.looked_up(*places)
        corners, f, g = self.corners(centre, level)
        near, far = (torch.lerp(*two, g) for two in corners)
        return norm * torch.lerp(near, far, f)

    def slopes(
        self, weight_gradient: Float[Tensor, "o i"], *places: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"], tuple[Float[Tensor, " o"], ...]]:
        centre, level, norm = self.looked_up(*places)
        corners, f, g = self.corners(centre, level)
        near, far = (torch.lerp(*two, g) for two in corners)
        narrow, wide = (torch.lerp(*two, f) for two in zip(*corners, strict=True))
        atom = norm * torch.lerp(near, far, f)
        into_amplitude = torch.linalg.vecdot(weight_gradient, atom)
        into_centre = NARROW * torch.linalg.vecdot(weight_gradient, norm * (far - near))
        into_level = torch.linalg.vecdot(weight_gradient, norm * (wide - narrow))
        into_width = into_level / math.log(self.levels.ratio) + 0.5 * into_amplitude
        into_centre = into_centre * ((centre >= 0) & (centre <= self.inputs - 1))
        return atom, into_amplitude, (into_centre, into_width * ((level >= 0) & (level <= self.levels.count - 1)))

    def looked_up(
        self, centre: Float[Tensor, " o"], log_width: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, " o"], Float[Tensor, " o"], Float[Tensor, "o 1"]]:
        """(index, level, n), the width in n kept to the levels."""
        level = self.levels.level_of(NARROW * torch.exp(log_width))
        width = self.levels.smallest * self.levels.ratio ** level.clamp(0, self.levels.count - 1)
        return NARROW * centre, level, norm(width)[:, None]

    def corners(
        self, centre: Float[Tensor, " o"], level: Float[Tensor, " o"]
    ) -> tuple[Corners, Float[Tensor, "o 1"], Float[Tensor, "o 1"]]:
        """(Gaussians [o i] at the lower and the upper position, each of the lower and the upper width; how far to the
        upper position; how far to the upper width)."""
        index = torch.arange(self.inputs, device=centre.device, dtype=centre.dtype)
        widths = torch.tensor(self.levels.widths(), device=centre.device, dtype=centre.dtype)
        i, f = between(centre, self.inputs)
        j, g = between(level, self.levels.count)

        def at(position: Tensor, level: Tensor) -> Tensor:
            width = widths[level][:, None]
            return torch.exp(-0.5 * ((index - position[:, None]) / width).square()) / (width * math.sqrt(2 * math.pi))

        return ((at(i, j), at(i, j + 1)), (at(i + 1, j), at(i + 1, j + 1))), f[:, None], g[:, None]


def norm(width: Tensor) -> Tensor:
    """What makes a Gaussian of area one, of this width, one whose squares sum to one."""
    return (4 * math.pi) ** 0.25 * width.sqrt()


class RowScaleSpaceLinear(RowLinear, Packed):
    def __init__(
        self, inputs: int, outputs: int, atoms: int, *, gain: float = 1.0, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        self.levels = levels_for(inputs)
        super().__init__(
            inputs, outputs, Interpolated(inputs, self.levels), {"centre": 1.0, "log_width": LOG_WIDTH_SCALE},
            atoms=atoms, gain=gain, compute_dtype=compute_dtype,
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """x of any dtype; the result is in the compute dtype."""
        found = self.by_kernel(x.to(self.compute_dtype))
        return super().forward(x) if found is None else found

    def pack(self) -> ScaleSpaceDecode:
        width = NARROW * torch.exp(cast(Tensor, self.log_width).detach())
        low, high = self.levels.smallest, self.levels.widths()[-1]
        width = width.clamp(low, high)
        return ScaleSpaceDecode.pack(
            self.inputs, self.amplitude * norm(width), NARROW * cast(Tensor, self.centre), width, self.levels
        )

    def place(self, generator: torch.Generator | None) -> None:
        cast(nn.Parameter, self.centre).uniform_(0, (self.inputs - 1) / NARROW, generator=generator)
        cast(nn.Parameter, self.log_width).zero_()

    def dictionary(self) -> dict[str, Tensor]:
        """Every level at every index."""
        return grid(centre=torch.arange(self.inputs).double() / NARROW,
                    log_width=(torch.tensor(self.levels.widths()).double() / NARROW).log())  # fmt: skip
