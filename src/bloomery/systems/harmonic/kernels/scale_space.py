"""Rows of Gaussians as look-ups in the Gaussian scale-space of the input.

    y_o = sum_k a_ok sum_i x_i G((i - c_ok) / s_ok) = sum_k a_ok X(c_ok, s_ok),   X(., s) = x blurred by width s

G has area one: G(u) = exp(-u^2 / 2) / (s sqrt(2 pi)). Positions and widths are in index steps. X is made once per
vector at log-spaced widths (`Levels`), whatever the number of rows and of matrices that read it, and every atom is one
bilinear look-up: O(levels inputs + 4 atoms) in place of O(outputs inputs atoms). The layer is defined by the
interpolated table, so its gradients are exact: the slopes between neighbours, which tend to dX/dc = X' and, by the heat
equation, dX/dlog s = s^2 X''. Against true Gaussians of unit norm and widths from 0.7, white input, interpolation costs
6 % of the output at a ratio of 2 and 3 % at sqrt 2, where that between positions is left. Outside [0, inputs - 1] and
outside the widths an atom is moved to the edge, where it has no gradient. Lindeberg, Scale-Space Theory in Computer
Vision, 1994.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True, slots=True)
class Levels:
    """Widths smallest * ratio^l in index steps, l < count."""

    smallest: float
    ratio: float
    count: int

    def __post_init__(self) -> None:
        assert self.smallest > 0, "a width is positive"
        assert self.ratio > 1, "widths grow"
        assert self.count >= 2, "a look-up is between two widths"

    def widths(self) -> list[float]:
        return [self.smallest * self.ratio**level for level in range(self.count)]

    def level_of(self, width: Float[Tensor, "o k"]) -> Float[Tensor, "o k"]:
        """Where a width stands between the levels: 1.5 is halfway, in the logarithm, from the second to the third."""
        return (width / self.smallest).log() / math.log(self.ratio)


def blurred(x: Float[Tensor, "... i"], levels: Levels) -> Float[Tensor, "... i l"]:
    """x blurred by every width, zero outside its ends; by Fourier transform, differentiable."""
    inputs = x.shape[-1]
    spectrum = torch.fft.rfft(x, 2 * inputs)[..., None, :] * torch.fft.rfft(kernels_of(inputs, levels, x))
    return torch.fft.irfft(spectrum, 2 * inputs)[..., :inputs].transpose(-1, -2)


def kernels_of(inputs: int, levels: Levels, like: Tensor) -> Float[Tensor, "l n"]:
    """Each width's Gaussian over 2 * inputs places, those beyond the end before the beginning."""
    size = 2 * inputs
    distance = torch.arange(size, device=like.device, dtype=like.dtype)
    distance = torch.minimum(distance, size - distance)
    widths = torch.tensor(levels.widths(), device=like.device, dtype=like.dtype)[:, None]
    return torch.exp(-0.5 * (distance / widths).square()) / (widths * math.sqrt(2 * math.pi))


def between(place: Float[Tensor, "o k"], count: int) -> tuple[Int[Tensor, "o k"], Float[Tensor, "o k"]]:
    """The lower neighbour among `count` points, and how far towards the upper one."""
    assert count >= 2, "a look-up is between two of something"
    place = place.clamp(0, count - 1)
    lower = place.floor().clamp(max=count - 2)
    return lower.long(), place - lower


def look_up(
    table: Float[Tensor, "t i l"],
    amplitude: Float[Tensor, "o k"],
    centre: Float[Tensor, "o k"],
    level: Float[Tensor, "o k"],
) -> Float[Tensor, "t o"]:
    """sum_k amplitude * table between its four neighbours of (centre, level)."""
    return _LookUp.apply(table, amplitude, centre, level)


def scale_space_rows(
    x: Float[Tensor, "t i"],
    amplitude: Float[Tensor, "o k"],
    centre: Float[Tensor, "o k"],
    width: Float[Tensor, "o k"],
    levels: Levels,
) -> Float[Tensor, "t o"]:
    """x W^T with W[o, i] = sum_k a G((i - c) / s), by the interpolated table. Differentiable in all four tensors."""
    return look_up(blurred(x, levels), amplitude, centre, levels.level_of(width))


class _LookUp(torch.autograd.Function):
    """With f, g the fractions of the way and T the four corners: value = sum of (1-f or f) (1-g or g) T; da = value,
    dcentre = a * difference of the corners along positions, dlevel = a * that along levels; dT: the same weights."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, amplitude: Tensor, centre: Tensor, level: Tensor) -> Tensor:
        ctx.save_for_backward(table, amplitude, centre, level)
        (_, f, _, g), corners = _corners(table, centre, level)
        left, right = torch.lerp(corners[0], corners[1], g), torch.lerp(corners[2], corners[3], g)
        return torch.einsum("tok,ok->to", torch.lerp(left, right, f), amplitude)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        table, amplitude, centre, level = ctx.saved_tensors
        positions, levels = table.shape[1:]
        (i, f, j, g), corners = _corners(table, centre, level)
        left, right = torch.lerp(corners[0], corners[1], g), torch.lerp(corners[2], corners[3], g)
        down, up = torch.lerp(corners[0], corners[2], f), torch.lerp(corners[1], corners[3], f)

        def summed(values: Tensor) -> Tensor:
            return torch.einsum("to,tok->ok", gradient, values)

        into_centre = amplitude * summed(right - left) * ((centre >= 0) & (centre <= positions - 1))
        into_level = amplitude * summed(up - down) * ((level >= 0) & (level <= levels - 1))
        into_table = None
        if ctx.needs_input_grad[0]:
            into_table = torch.zeros_like(table).flatten(1)
            first = i * levels + j
            parts = ((0, (1 - f) * (1 - g)), (1, (1 - f) * g), (levels, f * (1 - g)), (levels + 1, f * g))
            for offset, weight in parts:
                values = gradient[..., None] * (amplitude * weight)
                into_table.index_add_(1, (first + offset).flatten(), values.flatten(1))
            into_table = into_table.view_as(table)
        return into_table, summed(torch.lerp(left, right, f)), into_centre, into_level


def _corners(
    table: Tensor, centre: Tensor, level: Tensor
) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """(position, fraction, level, fraction) of the lower neighbours, and [t o k] of the table at the four corners:
    (position, level), (position, level + 1), (position + 1, level), (position + 1, level + 1)."""
    positions, levels = table.shape[1:]
    i, f = between(centre, positions)
    j, g = between(level, levels)
    flat, first = table.flatten(1), i * levels + j
    return (i, f, j, g), (
        flat[:, first], flat[:, first + 1], flat[:, first + levels], flat[:, first + levels + 1],
    )  # fmt: skip
