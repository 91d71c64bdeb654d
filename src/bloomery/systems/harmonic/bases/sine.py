"""SineLinear: a full-rank weight matrix generated from few numbers, W = diag(gain) sin(omega U V).

U [out r] and V [r in] are learned coordinates of the output and input features, so an entry is a harmonic of their
inner product: the rank of W is full although only r (out + in) + out numbers are stored (Ji et al., ICLR 2025,
arXiv 2403.19243). Per pass W costs 2 r out in + O(out in) operations more than a stored matrix.

On CUDA that needs torch's default precision of float32 products: TF32 would round the phase to ten bits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.model.interface import Scale
from bloomery.systems.harmonic.bases.lowrank import truncated
from bloomery.systems.harmonic.layers import Generated, Generator
from bloomery.systems.harmonic.metric import Metric

LARGEST_PHASE = 0.6
"""Of a matrix fitted to a dense one, at the start."""


@dataclass(frozen=True, slots=True)
class Sine(Generator):
    """Gradients: dPhase = dW * gain * omega * cos(phase), dU = dPhase V^T, dV = U^T dPhase,
    dgain = sum_i dW * sin(phase)."""

    omega: float

    def phase(
        self, out_coordinates: Float[Tensor, "o r"], in_coordinates: Float[Tensor, "r i"]
    ) -> Float[Tensor, "o i"]:
        # omega goes into the small factor: one pass over [o r] in place of one over [o i].
        return torch.mm(out_coordinates * self.omega, in_coordinates)

    def generate(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        out_coordinates, in_coordinates, gain = factors
        return torch.sin(self.phase(out_coordinates, in_coordinates)).mul_(gain[:, None])

    def again(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        out_coordinates, in_coordinates, gain = factors
        phase = self.phase(out_coordinates, in_coordinates)
        sine = torch.sin(phase)
        gain_gradient = torch.linalg.vecdot(weight_gradient, sine)
        weight = sine.mul_(gain[:, None])
        # gain and omega scale rows of dPhase, so they are applied to the [o r] factors and never to [o i].
        turned = weight_gradient.mul_(phase.cos_())
        row_scale = (gain * self.omega)[:, None]
        out_gradient = torch.mm(turned, in_coordinates.t()).mul_(row_scale)
        in_gradient = torch.mm((out_coordinates * row_scale).t(), turned)
        return weight, (out_gradient, in_gradient, gain_gradient)


class SineLinear(Generated):
    """For omega >= 2 the phase is nearly uniform, E sin^2 = 1/2, hence the sqrt(2) of the gain."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        rank: int,
        *,
        omega: float = 3.0,
        gain: float = 1.0,
        compute_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(inputs, outputs, Sine(omega), gain=gain, compute_dtype=compute_dtype)
        assert rank >= 1, "HarmonicConfig refuses shapes without a component"
        self.rank, self.omega, self.gain_scale = rank, omega, gain * math.sqrt(2.0 / inputs)
        self.out_coordinates = nn.Parameter(torch.empty(outputs, rank))
        self.in_coordinates = nn.Parameter(torch.empty(rank, inputs))
        self.gain = nn.Parameter(torch.empty(outputs))

    @torch.no_grad()
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """U ~ N(0, 1), V ~ N(0, 1/r), gain constant at gain sqrt(2 / inputs): entries of U V are near N(0, 1)."""
        self.out_coordinates.normal_(0.0, 1.0, generator=generator)
        self.in_coordinates.normal_(0.0, 1.0 / math.sqrt(self.rank), generator=generator)
        self.gain.fill_(self.gain_scale)

    def scales(self) -> dict[str, Scale]:
        return {
            "out_coordinates": Scale("centres", 1.0, decay=False, matrix=False),
            "in_coordinates": Scale("centres", 1.0 / math.sqrt(self.rank), decay=False, matrix=False),
            "gain": Scale("gain", self.gain_scale, decay=False, matrix=False),
        }

    def fit(self, weight: Float[Tensor, "o i"], metric: Metric) -> None:
        """The low-rank fit, its rows scaled into the nearly linear part of the sine: |phase| <= LARGEST_PHASE, where a
        sine misses its argument by at most a sixth of the phase's square. Coordinates beyond the rank of `weight` stay
        as they are on one side and are zero on the other."""
        left, right = truncated(metric.apply(weight), self.rank)
        right, found = metric.undo(right), left.shape[1]
        gain = (left @ right).abs().amax(1).clamp_min(1e-300) / LARGEST_PHASE
        balance = right.square().mean().sqrt().clamp_min(1e-300) * math.sqrt(self.rank)
        self.gain.copy_(gain)
        self.out_coordinates.zero_()[:, :found] = left / gain[:, None] / self.omega * balance
        self.in_coordinates[:found] = right / balance

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, rank={self.rank}, omega={self.omega:g}"
