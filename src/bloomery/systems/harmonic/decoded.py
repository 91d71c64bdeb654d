"""Level 4: every matrix is decoded, coarse to fine, from one small latent by one decoder that all linears share.

A linear stores a latent z [R] and gains of its rows; the model one decoder, split [4 R, R] and readout [16, R]:

    root     one cell, h = z
    halving  a cell becomes 2 x 2, h_ab = sin(split_ab h): the same split at every size, cells beyond W are cropped
    leaf     a cell becomes a tile of 4 x 4 entries, readout h
    W        the leaves, row o times gain_o

The latents are parameters, as in an auto-decoder (Park et al. 2019, DeepSDF): there is no encoder, and no noise is
drawn. Without the sine it would be a quantised tensor train whose cores are all one (Oseledets 2010), of full rank
though it stores little. split and readout ~ N(0, 1 / (R E sin^2)), E sin^2 = (1 - e^-2) / 2 of phases N(0, 1): every
size has the variance of the one before and unlike cells stay unlike, while a change of z grows by 1.15 a halving. Few
numbers make a matrix, so its rows differ in norm: gains begin where every row has exactly that of a dense layer.

The leaves hold R / 16 times the numbers of W while it is made. No form but this one; nothing is converted to it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.measure import Group
from bloomery.model.interface import Scale
from bloomery.systems.harmonic.layers import Generated, Generator, counted
from bloomery.systems.harmonic.levels import TILE

MEAN_SQUARE = (1.0 - math.exp(-2.0)) / 2.0
"""Of sin(x), x ~ N(0, 1)."""


class SharedDecoder(nn.Module):
    """What all linears of a model are decoded with."""

    def __init__(self, components: int) -> None:
        super().__init__()
        self.components = components
        self.split = nn.Parameter(torch.empty(4 * components, components))
        self.readout = nn.Parameter(torch.empty(TILE**2, components))

    @property
    def initial_scale(self) -> float:
        return 1.0 / math.sqrt(self.components * MEAN_SQUARE)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        for parameter in self.parameters():
            parameter.normal_(0.0, self.initial_scale, generator=generator)

    def scales(self) -> dict[str, Scale]:
        return {
            "split": Scale("centres", self.initial_scale, decay=False, matrix=False),
            "readout": Scale("factor", self.initial_scale, decay=False, matrix=False),
        }

    def tally(self) -> Group:
        return counted(self, 0.0)


@dataclass(frozen=True, slots=True)
class Decoder(Generator):
    """Factors: latent [r], split [4r r], readout [16 r], gain [o]."""

    outputs: int
    inputs: int

    def grids(self) -> list[tuple[int, int]]:
        """Cells [rows columns] of each size, from the first halving to the leaves."""
        found, rows, columns = [], math.ceil(self.outputs / TILE), math.ceil(self.inputs / TILE)
        while (rows, columns) != (1, 1):
            found.append((rows, columns))
            rows, columns = math.ceil(rows / 2), math.ceil(columns / 2)
        return found[::-1]

    def cells(self, latent: Tensor, split: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """(h of each size from the root, phases of each size after it), [rows columns r]."""
        cells, phases = [latent[None, None]], []
        for rows, columns in self.grids():
            phases.append(_spread(cells[-1] @ split.t(), 2, rows, columns))
            cells.append(torch.sin(phases[-1]))
        return cells, phases

    def raw(self, leaves: Tensor, readout: Tensor) -> Float[Tensor, "o i"]:
        return _spread(leaves @ readout.t(), TILE, self.outputs, self.inputs)[..., 0]

    def generate(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        latent, split, readout, gain = factors
        return self.raw(self.cells(latent, split)[0][-1], readout) * gain[:, None]

    def again(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        latent, split, readout, gain = factors
        cells, phases = self.cells(latent, split)
        raw = self.raw(cells[-1], readout)
        gain_gradient = torch.linalg.vecdot(weight_gradient, raw)
        spread = _gather((weight_gradient * gain[:, None])[..., None], TILE, cells[-1])
        readout_gradient = spread.flatten(0, 1).t() @ cells[-1].flatten(0, 1)
        split_gradient, cell_gradient = torch.zeros_like(split), spread @ readout
        for cell, phase in zip(cells[-2::-1], phases[::-1], strict=True):
            spread = _gather(cell_gradient * phase.cos(), 2, cell)
            split_gradient += spread.flatten(0, 1).t() @ cell.flatten(0, 1)
            cell_gradient = spread @ split
        gradients = (cell_gradient[0, 0], split_gradient, readout_gradient, gain_gradient)
        return raw * gain[:, None], gradients


def _spread(cells: Float[Tensor, "r c n"], side: int, rows: int, columns: int) -> Float[Tensor, "rows columns k"]:
    """Each cell's n = side^2 k numbers as a square of side x side cells of k, cropped."""
    high, wide, numbers = cells.shape
    squares = cells.view(high, wide, side, side, numbers // side**2).transpose(1, 2)
    return squares.reshape(high * side, wide * side, -1)[:rows, :columns]


def _gather(squares: Float[Tensor, "rows columns k"], side: int, like: Float[Tensor, "r c _"]) -> Tensor:
    """The transpose of _spread onto the cells of `like`: [r c n]."""
    high, wide, _ = like.shape
    rows, columns, numbers = squares.shape
    whole = F.pad(squares, (0, 0, 0, wide * side - columns, 0, high * side - rows))
    return whole.view(high, side, wide, side, numbers).transpose(1, 2).reshape(high, wide, -1)


class DecodedLinear(Generated):
    def __init__(
        self, inputs: int, outputs: int, shared: SharedDecoder, *, gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        super().__init__(inputs, outputs, Decoder(outputs, inputs), gain=gain, compute_dtype=compute_dtype)
        self._shared = (shared,)  # in a tuple: its parameters are the model's, not this module's
        self.latent = nn.Parameter(torch.empty(shared.components))
        self.gain = nn.Parameter(torch.empty(outputs))

    def stored(self) -> tuple[Tensor, ...]:
        return self.latent, self._shared[0].split, self._shared[0].readout, self.gain

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Its own numbers alone; the decoder is drawn by the model, before."""
        self.latent.normal_(0.0, math.sqrt(MEAN_SQUARE), generator=generator)
        self.gain.fill_(1.0)
        norms = torch.linalg.vector_norm(self.generator.generate(*self.stored()), dim=1)
        self.gain.copy_(self.initial_gain / norms)

    def scales(self) -> dict[str, Scale]:
        return {
            "latent": Scale("centres", math.sqrt(MEAN_SQUARE), decay=False, matrix=False),
            "gain": Scale("gain", self.initial_gain / math.sqrt(self.inputs), decay=False, matrix=False),
        }
