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
from jaxtyping import Float, Int
from torch import Tensor, nn

from bloomery.systems.harmonic.bases.row_gauss import LOG_WIDTH_SCALE
from bloomery.systems.harmonic.bases.rows import NARROW, RowLinear, Rows, grid
from bloomery.systems.harmonic.kernels.rows import ScaleSpaceDecode
from bloomery.systems.harmonic.kernels.scale_space import Levels, between, blurred, kernels_of
from bloomery.systems.harmonic.layers import Packed

SMALLEST, RATIO, MOST = 0.5, 2.0, 8
"""Of the widths: the narrowest in index steps, from one to the next, and how many (the kernel's tables hold eight)."""
ROWS_AT_ONCE = 256
"""That are blurred together, which bounds memory."""


def levels_for(inputs: int) -> Levels:
    """Up to about the length of a row."""
    return Levels(SMALLEST, RATIO, min(MOST, max(2, 1 + round(math.log(inputs / SMALLEST, RATIO)))))


@dataclass(frozen=True, slots=True)
class Interpolated(Rows):
    """All atoms of a row are written into a table of positions and widths, and each width of it is blurred at once:
    O(outputs (atoms + levels inputs log inputs)) in place of O(outputs inputs atoms). What they gain by moving is read
    from the blurred gradient, the same way round."""

    inputs: int
    levels: Levels

    def atom(self, *places: Float[Tensor, " o"]) -> Float[Tensor, "o i"]:
        return self.generate(torch.ones_like(places[0])[:, None], *(place[:, None] for place in places))

    def generate(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        amplitude, *places = factors
        where, (f, g), unit, _ = self.looked_up(*places)
        parts = ((1 - f) * (1 - g), f * (1 - g), (1 - f) * g, f * g)
        shares = torch.stack([amplitude * unit * part for part in parts], dim=-1)
        table = shares.new_zeros(len(shares), self.levels.count * self.inputs)
        table.scatter_add_(1, self.corners(where).flatten(1), shares.flatten(1))
        kernels = torch.fft.rfft(kernels_of(self.inputs, self.levels, table))
        rows = table.view(-1, self.levels.count, self.inputs).split(ROWS_AT_ONCE)
        spectra = [(torch.fft.rfft(each, 2 * self.inputs) * kernels).sum(1) for each in rows]
        return torch.cat([torch.fft.irfft(each, 2 * self.inputs)[:, : self.inputs] for each in spectra])

    def again(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        amplitude, *places = factors
        where, (f, g), unit, (moves, widens) = self.looked_up(*places)
        parts = zip(weight_gradient.split(ROWS_AT_ONCE), where.split(ROWS_AT_ONCE), strict=True)
        seen = [
            blurred(rows, self.levels).mT.flatten(1).gather(1, self.corners(at).flatten(1)).view(*at.shape, 4)
            for rows, at in parts
        ]
        near_narrow, far_narrow, near_wide, far_wide = (unit * one for one in torch.cat(seen).unbind(-1))
        near, far = torch.lerp(near_narrow, near_wide, g), torch.lerp(far_narrow, far_wide, g)
        narrow, wide = torch.lerp(near_narrow, far_narrow, f), torch.lerp(near_wide, far_wide, f)
        into_amplitude = torch.lerp(near, far, f)
        into_centre = amplitude * NARROW * (far - near) * moves
        into_width = amplitude * ((wide - narrow) / math.log(self.levels.ratio) + 0.5 * into_amplitude) * widens
        return self.generate(*factors), (into_amplitude, into_centre, into_width)

    def looked_up(
        self, centre: Float[Tensor, "o k"], log_width: Float[Tensor, "o k"]
    ) -> tuple[Int[Tensor, "o k"], tuple[Tensor, Tensor], Float[Tensor, "o k"], tuple[Tensor, Tensor]]:
        """(place in the table, how far to the next position and to the next width, n, whether position and width are
        within it)."""
        index, level = NARROW * centre, self.levels.level_of(NARROW * torch.exp(log_width))
        last, widest = self.inputs - 1, self.levels.count - 1
        i, f = between(index, self.inputs)
        j, g = between(level, self.levels.count)
        width = self.levels.smallest * self.levels.ratio ** level.clamp(0, widest)
        inside = (index >= 0) & (index <= last), (level >= 0) & (level <= widest)
        return j * self.inputs + i, (f, g), norm(width), inside

    def corners(self, where: Int[Tensor, "o k"]) -> Int[Tensor, "o k 4"]:
        """This position and the next, of this width and of the next."""
        return where[..., None] + torch.tensor((0, 1, self.inputs, self.inputs + 1), device=where.device)


def norm(width: Tensor) -> Tensor:
    """What makes a Gaussian of area one, of this width, one whose squares sum to one."""
    return (4 * math.pi) ** 0.25 * width.sqrt()


class RowScaleSpaceLinear(RowLinear, Packed):
    on_gpu = "scale_space"

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
