"""SineLinear: a full-rank weight matrix generated from few numbers, W = diag(gain) sin(omega U V).

U [out r] and V [r in] are learned coordinates of the output and input features, so an entry is a harmonic of their
inner product: the rank of W is full although only r (out + in) + out numbers are stored (Ji et al., ICLR 2025,
arXiv 2403.19243). W lives for one product: forward keeps U, V, gain and the input, and backward generates W again.
Phase and sine are computed in float32 in both, and only then rounded to the compute dtype.

On CUDA that needs torch's default precision of float32 products: TF32 would round the phase to ten bits.

Memory falls, compute does not: per pass the matrix costs 2 r out in + O(out in) operations more than a stored one.
Refuses second derivatives (`torch.autograd.function.once_differentiable`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from bloomery.model.interface import Scale
from bloomery.systems.harmonic.layers import Generated


def _sine(
    out_coordinates: Float[Tensor, "o r"], in_coordinates: Float[Tensor, "r i"], omega: float
) -> tuple[Float[Tensor, "o i"], Float[Tensor, "o i"]]:
    """Phase omega U V and its sine, in float32 (float64 for float64 parameters, which only the tests have)."""
    # omega goes into the small factor: one pass over [o r] in place of one over [o i].
    phase = torch.mm(out_coordinates * omega, in_coordinates)
    return phase, torch.sin(phase)


class _SineProduct(torch.autograd.Function):
    """x W^T without keeping W. Gradients: dPhase = dW * gain * omega * cos(phase), dU = dPhase V^T, dV = U^T dPhase,
    dgain = sum_i dW * sin(phase)."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx,
        inputs: Float[Tensor, "... i"],
        out_coordinates: Float[Tensor, "o r"],
        in_coordinates: Float[Tensor, "r i"],
        gain: Float[Tensor, " o"],
        omega: float,
    ) -> Float[Tensor, "... o"]:
        ctx.save_for_backward(inputs, out_coordinates, in_coordinates, gain)
        ctx.omega = omega  # pyright: ignore[reportAttributeAccessIssue]
        _, sine = _sine(out_coordinates, in_coordinates, omega)
        return F.linear(inputs, sine.mul_(gain[:, None]).to(inputs.dtype))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, output_gradient: Float[Tensor, "... o"]
    ) -> tuple[Tensor | None, Tensor, Tensor, Tensor, None]:
        inputs, out_coordinates, in_coordinates, gain = ctx.saved_tensors
        phase, sine = _sine(out_coordinates, in_coordinates, ctx.omega)
        rows = output_gradient.reshape(-1, output_gradient.shape[-1])
        weight_gradient = torch.mm(rows.t(), inputs.reshape(-1, inputs.shape[-1])).to(phase.dtype)
        gain_gradient = torch.linalg.vecdot(weight_gradient, sine)
        input_gradient = None
        if ctx.needs_input_grad[0]:
            weight = sine.mul_(gain[:, None]).to(inputs.dtype)
            input_gradient = torch.mm(rows, weight).view(inputs.shape)
        # gain and omega scale rows of dPhase, so they are applied to the [o r] factors and never to [o i].
        turned = weight_gradient.mul_(phase.cos_())
        row_scale = (gain * ctx.omega)[:, None]
        out_gradient = torch.mm(turned, in_coordinates.t()).mul_(row_scale)
        in_gradient = torch.mm((out_coordinates * row_scale).t(), turned)
        return input_gradient, out_gradient, in_gradient, gain_gradient, None


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
        super().__init__(inputs, outputs, gain=gain, compute_dtype=compute_dtype)
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

    def product(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        return _SineProduct.apply(x, self.out_coordinates, self.in_coordinates, self.gain, self.omega)

    @torch.no_grad()
    def weight(self) -> Float[Tensor, "o i"]:
        """The generated matrix in the compute dtype: the same bits as forward and backward use."""
        _, sine = _sine(self.out_coordinates, self.in_coordinates, self.omega)
        return sine.mul_(self.gain[:, None]).to(self.compute_dtype)

    def options(self) -> tuple[object, ...]:
        return (self.omega,)

    def scales(self) -> dict[str, Scale]:
        return {
            "out_coordinates": Scale("centres", 1.0, decay=False, matrix=False),
            "in_coordinates": Scale("centres", 1.0 / math.sqrt(self.rank), decay=False, matrix=False),
            "gain": Scale("gain", self.gain_scale, decay=False, matrix=False),
        }

    def extra_repr(self) -> str:
        return f"{self.inputs} -> {self.outputs}, rank={self.rank}, omega={self.omega:g}"
