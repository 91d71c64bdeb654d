"""RowLinear: every row of W is a sum of K unit atoms over the index of the inputs, W[o, i] = sum_k a_ok atom_ok(i).

What an atom is, stands in row_gauss.py, row_gabor.py and row_cos.py; here, how rows are made of them: in float32 on a
CPU by kernels/atoms.py, else one atom of all rows at a time, in forward and in backward: memory O(out in), whatever K.
The squares of an atom sum to one, so that amplitudes are N(0, gain^2 / K); rows are then scaled to gain exactly, which
edges and overlaps would miss by some percent (spec 1.1).

The initial width of those that have one decides (spec 0.1): `narrow`, 0.7 of an index step, is a learned sparse layer;
`wide`, 0.5 / K of the row, makes all rows smooth in the index and W of few singular values: the documented failure.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.model.interface import Scale
from bloomery.systems.harmonic.kernels.atoms import RowKernel
from bloomery.systems.harmonic.layers import Generated, Generator
from bloomery.systems.harmonic.metric import Metric
from bloomery.systems.harmonic.pursuit import pursue

NARROW = 0.7
"""Index steps."""
WIDE = 0.5
"""Of the K-th part of a row."""
AtomWidth = Literal["narrow", "wide"]


WIDTHS = (0.5, 0.7, 1.4, 2.8, 5.6, 11.2)
"""Of a fit's dictionary, index steps."""


def grid(**axes: Tensor) -> dict[str, Float[Tensor, " d"]]:
    """Every combination."""
    return dict(zip(axes, (part.flatten() for part in torch.meshgrid(*axes.values(), indexing="ij")), strict=True))


def initial_width(setting: AtomWidth, inputs: int, atoms: int) -> float:
    """In index steps."""
    return NARROW if setting == "narrow" else WIDE * inputs / atoms


class Rows(Generator):
    """Factors: amplitude [o k], then what places the atoms, [o k] each."""

    @abstractmethod
    def atom(self, *places: Float[Tensor, " o"]) -> Float[Tensor, "o i"]:
        """One atom of every row."""


class Atoms(Rows):
    """Made by a kernel where there is one, else one atom of all rows at a time."""

    @abstractmethod
    def kernel(self) -> RowKernel:
        """The same in C, for factors that it takes."""

    @abstractmethod
    def slopes(
        self, weight_gradient: Float[Tensor, "o i"], *places: Float[Tensor, " o"]
    ) -> tuple[Float[Tensor, "o i"], Float[Tensor, " o"], tuple[Float[Tensor, " o"], ...]]:
        """(the atom, <dW, atom> of every row, <dW, d atom / d place> for each place)."""

    def generate(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        found = self.kernel().generate(factors)
        return self.generate_by_torch(*factors) if found is None else found

    def again(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        found = self.kernel().again(weight_gradient, factors)
        return self.again_by_torch(weight_gradient, *factors) if found is None else found

    def generate_by_torch(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        amplitude, *places = factors
        weight = amplitude[:, :1] * self.atom(*(place[:, 0] for place in places))
        for k in range(1, amplitude.shape[1]):
            weight.addcmul_(amplitude[:, k : k + 1], self.atom(*(place[:, k] for place in places)))
        return weight

    def again_by_torch(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        amplitude, *places = factors
        weight = torch.zeros_like(weight_gradient)
        columns: list[list[Tensor]] = [[] for _ in factors]
        for k in range(amplitude.shape[1]):
            atom, into_amplitude, into_places = self.slopes(weight_gradient, *(place[:, k] for place in places))
            weight.addcmul_(amplitude[:, k : k + 1], atom)
            for column, slope in zip(columns, (into_amplitude, *into_places), strict=True):
                column.append(slope)
        into_amplitude, *into_places = (torch.stack(column, dim=1) for column in columns)
        return weight, (into_amplitude, *(into.mul_(amplitude) for into in into_places))


class RowLinear(Generated):
    """`scales_of_places`: {place: its natural scale}, the step by which an atom becomes another one."""

    def __init__(
        self, inputs: int, outputs: int, generator: Rows, scales_of_places: Mapping[str, float],
        *, atoms: int, gain: float, compute_dtype: torch.dtype,
    ) -> None:  # fmt: skip
        super().__init__(inputs, outputs, generator, gain=gain, compute_dtype=compute_dtype)
        self.generator: Rows = generator
        self.atoms, self.scales_of_places = atoms, dict(scales_of_places)
        self.amplitude = nn.Parameter(torch.empty(outputs, atoms))
        for name in scales_of_places:
            self.register_parameter(name, nn.Parameter(torch.empty(outputs, atoms)))

    @abstractmethod
    def place(self, generator: torch.Generator | None) -> None:
        """Draw where the atoms lie."""

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        self.place(generator)
        self.amplitude.normal_(0.0, self.initial_gain / math.sqrt(self.atoms), generator=generator)
        rows = self.generator.generate(*self.parameters())
        self.amplitude.mul_(self.initial_gain / torch.linalg.vector_norm(rows, dim=1, keepdim=True))

    @abstractmethod
    def dictionary(self) -> Mapping[str, Float[Tensor, " d"]]:
        """Places that a fit may choose among, float64; `phase` is left out, where there is one: a fit turns freely."""

    def fit(self, weight: Float[Tensor, "o i"], metric: Metric) -> None:
        """Matching pursuit over the dictionary. a cos + b sin is one atom of amplitude |(a, b)|, phase atan2(-b, a)."""
        places = dict(self.dictionary())
        turns = [0.0, -math.pi / 2] if "phase" in self.scales_of_places else [None]
        ends = [{} if turn is None else {"phase": torch.full_like(next(iter(places.values())), turn)} for turn in turns]
        atoms = torch.stack([self.generator.atom(*(places | end).values()) for end in ends], dim=1)
        chosen, found = pursue(metric.apply(weight), metric.apply(atoms), self.atoms)
        amplitude = found[..., 0]
        if "phase" in self.scales_of_places:
            amplitude = torch.linalg.vector_norm(found, dim=2)
            self.get_parameter("phase").copy_(torch.atan2(-found[..., 1], found[..., 0]))
        self.amplitude.copy_(amplitude)
        for name, grid in places.items():
            self.get_parameter(name).copy_(grid[chosen])

    def scales(self) -> dict[str, Scale]:
        amplitude = Scale("factor", self.initial_gain / math.sqrt(self.atoms), decay=True, matrix=False)
        places = {name: Scale("centres", scale, decay=False, matrix=False)
                  for name, scale in self.scales_of_places.items()}  # fmt: skip
        return {"amplitude": amplitude, **places}

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, atoms={self.atoms}"
