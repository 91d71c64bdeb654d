"""MetaHarmonicLinear and MetaMetaHarmonicLinear: linears whose components are generated too (spec 1.3).

Shared coordinates (levels 2 and 3): one table C_w [w R] for each number of features w, which all layers share; a linear
with N inputs and M outputs has an R x R matrix and gains of its own,

    W = diag(gain) sin(omega C_M T C_N^T),    level 3: T_l = sum_j cos(pi j (l + 1/2) / L) B_j,  j < J

so that W has full rank though its linear stores R^2 + M numbers, or at level 3 M. `low_rank` is the same without the
sine. T ~ N(0, 1/R^2) for C ~ N(0, 1): the phase has variance one, as in SineLinear.

Literal (the seed's level 2): a row is K Gaussians over the inputs, and each of their 3 K fields (amplitude, centre,
logarithm of the width) H Gaussians over the index of the output, field(o) = sum_h height exp(-(o - m)^2 / 2 w^2), with
an offset for centres and widths. W is then smooth in both indices and its singular values fall exponentially: measured,
it ends above a frozen random matrix (spec 2.1: 2.690 against 2.384). It is kept as what is to be refuted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.measure import Group
from bloomery.model.interface import Scale
from bloomery.systems.harmonic.bases.row_gauss import LOG_WIDTH_SCALE, Gaussians
from bloomery.systems.harmonic.bases.rows import initial_width
from bloomery.systems.harmonic.bases.sine import Sine
from bloomery.systems.harmonic.layers import Generated, HarmonicLinear
from bloomery.systems.harmonic.levels import ATOMS, depth_wave


class SharedNumbers(nn.Module):
    """The tables of coordinates, and at level 3 (depth_harmonics > 0) harmonics B [J R R] for each kind of linear."""

    def __init__(self, widths: Iterable[int], components: int, kinds: Sequence[str], depth_harmonics: int) -> None:
        super().__init__()
        self.components, self.depth_harmonics = components, depth_harmonics
        self.tables = nn.ParameterDict(
            {str(width): nn.Parameter(torch.empty(width, components)) for width in sorted(widths)}
        )
        shape = (depth_harmonics, components, components)
        self.harmonics = nn.ParameterDict(
            {kind: nn.Parameter(torch.empty(shape)) for kind in kinds if depth_harmonics}
        )  # fmt: skip

    @property
    def harmonic_scale(self) -> float:
        """With which a T of J harmonics has variance 1/R^2 in the mean over depth."""
        return 1.0 / (self.components * math.sqrt((self.depth_harmonics + 1) / 2))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        for table in self.tables.values():
            table.normal_(0.0, 1.0, generator=generator)
        for harmonics in self.harmonics.values():
            harmonics.normal_(0.0, self.harmonic_scale, generator=generator)

    def scales(self) -> dict[str, Scale]:
        tables = {f"tables.{width}": Scale("centres", 1.0, decay=False, matrix=False) for width in self.tables}
        scale = Scale("centres", self.harmonic_scale, decay=False, matrix=False)
        return tables | {f"harmonics.{kind}": scale for kind in self.harmonics}

    def tally(self) -> Group:
        stored = sum(parameter.numel() for parameter in self.parameters())
        return Group(stored, stored)


class Mix(nn.Module):
    """T [R R] of one linear: its own at level 2, a sum of harmonics at level 3, where it stores nothing."""

    own: nn.Parameter | None

    def __init__(self, shared: SharedNumbers, kind: str, layer: int, layers: int) -> None:
        super().__init__()
        self._shared, self.kind = (shared,), kind  # in a tuple: its parameters are the model's, not this module's
        count = shared.components
        self.own = None if shared.depth_harmonics else nn.Parameter(torch.empty(count, count))
        self.waves = [depth_wave(order, layer, layers) for order in range(shared.depth_harmonics)]

    def stored(self) -> Tensor:
        return self._shared[0].harmonics[self.kind] if self.own is None else self.own

    def forward(self) -> Float[Tensor, "r r"]:
        stored = self.stored()
        if self.own is not None:
            return stored
        return torch.tensordot(torch.tensor(self.waves, dtype=stored.dtype, device=stored.device), stored, dims=1)

    def table(self, width: int) -> Float[Tensor, "w r"]:
        return self._shared[0].tables[str(width)]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        if self.own is not None:
            self.own.normal_(0.0, 1.0 / self.own.shape[0], generator=generator)

    def scales(self) -> dict[str, Scale]:
        if self.own is None:
            return {}
        return {"mix.own": Scale("centres", 1.0 / self.own.shape[0], decay=False, matrix=False)}


class MetaHarmonicLinear(Generated):
    """W = diag(gain) sin(omega C_M T C_N^T); with a Mix of level 3 it is the MetaMetaHarmonicLinear."""

    def __init__(
        self, inputs: int, outputs: int, mix: Mix, *, omega: float, gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        super().__init__(inputs, outputs, Sine(omega), gain=gain, compute_dtype=compute_dtype)
        self.mix, self.gain_scale = mix, gain * math.sqrt(2.0 / inputs)
        self.gain = nn.Parameter(torch.empty(outputs))

    def stored(self) -> tuple[Tensor, ...]:
        return self.mix.table(self.outputs), self.mix.stored(), self.mix.table(self.inputs), self.gain

    def factors(self) -> tuple[Tensor, ...]:
        """Those of a SineLinear: U = C_M T, V = C_N^T."""
        return self.mix.table(self.outputs) @ self.mix(), self.mix.table(self.inputs).t(), self.gain

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Its own numbers alone; the tables are drawn by the model."""
        self.mix.initialise(generator)
        self.gain.fill_(self.gain_scale)

    def scales(self) -> dict[str, Scale]:
        return self.mix.scales() | {"gain": Scale("gain", self.gain_scale, decay=False, matrix=False)}


class SharedLowRankLinear(HarmonicLinear):
    """W = diag(gain) C_M T C_N^T, applied factor by factor: the control of the same size."""

    def __init__(
        self, inputs: int, outputs: int, mix: Mix, *, gain: float = 1.0, compute_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__(inputs, outputs, gain=gain, compute_dtype=compute_dtype)
        self.mix, self.gain_scale = mix, gain / math.sqrt(inputs)
        self.gain = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        dtype = self.compute_dtype
        x = x.to(dtype) @ self.mix.table(self.inputs).to(dtype)
        x = F.linear(x, self.mix().to(dtype))
        return F.linear(x, self.mix.table(self.outputs).to(dtype)) * self.gain.to(dtype)

    def matrix(self) -> Float[Tensor, "o i"]:
        return self.gain[:, None] * (self.mix.table(self.outputs) @ self.mix() @ self.mix.table(self.inputs).t())

    @torch.no_grad()
    def weight(self) -> Float[Tensor, "o i"]:
        return self.matrix().to(self.compute_dtype)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        self.mix.initialise(generator)
        self.gain.fill_(self.gain_scale)

    def scales(self) -> dict[str, Scale]:
        return self.mix.scales() | {"gain": Scale("gain", self.gain_scale, decay=False, matrix=False)}

    def tally(self) -> Group:
        stored, components = sum(parameter.numel() for parameter in self.parameters()), self.mix._shared[0].components
        flops = 2.0 * components * (self.inputs + components + self.outputs)
        return Group(stored, stored, flops_per_token=flops)


class LiteralMetaLinear(Generated):
    """A RowGaussLinear whose factors [o k] are smooth functions of o; initial rows have norm `gain` in the mean,
    numerically: neighbouring rows are alike, so that no formula for independent ones holds."""

    def __init__(
        self, inputs: int, outputs: int, meta_components: int, *, gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:  # fmt: skip
        unit = initial_width("wide", inputs, ATOMS)
        super().__init__(inputs, outputs, Gaussians(inputs, unit), gain=gain, compute_dtype=compute_dtype)
        self.meta_components, self.unit = meta_components, unit
        shape = (ATOMS, meta_components)
        self.amplitude_height = nn.Parameter(torch.empty(shape))
        self.centre_height = nn.Parameter(torch.empty(shape))
        self.width_height = nn.Parameter(torch.empty(shape))
        self.place = nn.Parameter(torch.empty(3, *shape))
        self.log_width = nn.Parameter(torch.empty(3, *shape))
        self.offset = nn.Parameter(torch.empty(2, ATOMS))

    def factors(self) -> tuple[Tensor, ...]:
        """Amplitudes, centres and logarithms of widths [o k], as RowGaussLinear has them."""
        heights = torch.stack((self.amplitude_height, self.centre_height, self.width_height))
        at = (torch.arange(self.outputs, device=heights.device, dtype=heights.dtype) + 0.5) / self.outputs
        distance = (at[:, None, None, None] - self.place) * torch.exp(-self.log_width)
        amplitude, centre, width = (heights * torch.exp(-0.5 * distance.square())).sum(-1).unbind(1)
        return amplitude, centre + self.offset[0], width + self.offset[1]

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Places and centres uniform, meta-widths 1/H, heights in their natural scales."""
        for name, scale in self.scales().items():
            if name.endswith("height"):
                self.get_parameter(name).normal_(0.0, scale.initial_scale, generator=generator)
        self.place.uniform_(0.0, 1.0, generator=generator)
        self.log_width.fill_(-math.log(self.meta_components))
        self.offset[0].uniform_(0.0, self.inputs / self.unit, generator=generator)
        self.offset[1].zero_()
        rows = torch.linalg.vector_norm(self.generator.generate(*self.factors()), dim=1)
        self.amplitude_height.mul_(self.initial_gain / rows.square().mean().sqrt())

    def scales(self) -> dict[str, Scale]:
        """H Gaussians of width 1/H add up to a variance of sqrt(pi) heights squared, K of them to a row."""
        height = self.initial_gain / math.sqrt(ATOMS * math.sqrt(math.pi))

        def centres(scale: float) -> Scale:
            return Scale("centres", scale, decay=False, matrix=False)

        return {
            "amplitude_height": Scale("factor", height, decay=True, matrix=False),
            "centre_height": centres(1.0),
            "width_height": centres(LOG_WIDTH_SCALE),
            "place": centres(1.0 / self.meta_components),
            "log_width": centres(LOG_WIDTH_SCALE),
            "offset": centres(1.0),
        }
