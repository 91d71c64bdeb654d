"""HarmonicLinear: a linear map whose matrix is generated from few numbers, whatever the basis. No bias.

    y = x W(factors)^T

`Factorised` bases apply their factors one after the other and never make W. `Generated` ones make W for one product:
forward keeps the factors and the input, and backward makes W again, so that memory holds what is stored and not what
it stands for (the seed's "W checkpoint"). Factors are float32 masters and W is generated in float32, whatever the
compute dtype (float64 for float64 factors, which only the tests have).

Memory falls, compute does not: a generated matrix is multiplied as one, and costs its making in every pass.
`Generated` refuses second derivatives (`torch.autograd.function.once_differentiable`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from bloomery.measure import Group
from bloomery.model.interface import Scale
from bloomery.systems.harmonic.kernels import chosen
from bloomery.systems.harmonic.metric import Metric


class HarmonicLinear(nn.Module, ABC):
    """Drop-in for a linear map without bias, x [... inputs] -> [... outputs].

    The output's variance at the start is initial_gain^2 times the mean square of a white input, as for a dense layer
    drawn with deviation initial_gain / sqrt(inputs).
    """

    def __init__(self, inputs: int, outputs: int, *, gain: float, compute_dtype: torch.dtype) -> None:
        super().__init__()
        self.inputs, self.outputs, self.initial_gain, self.compute_dtype = inputs, outputs, gain, compute_dtype

    @abstractmethod
    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw its own parameters anew."""

    @abstractmethod
    def weight(self) -> Float[Tensor, "o i"]:
        """The matrix in the compute dtype, without gradient."""

    @abstractmethod
    def scales(self) -> dict[str, Scale]:
        """Natural scales: a relative rate moves every factor by the same share of its initial deviation per step.

        Group `centres`: where components lie (coordinates, centres, widths, frequencies, phases); all else is linear
        in W and of group `gain` or `factor`."""

    def fit(self, weight: Float[Tensor, "o i"], metric: Metric) -> None:
        """Set the parameters so that W is near `weight`, float64, in the metric: every basis can (from_dense.py)."""
        raise NotImplementedError(f"{type(self).__name__} has no fit of its own")

    def tally(self) -> Group:
        return counted(self, 2.0 * self.inputs * self.outputs)


class Packed(HarmonicLinear):
    """Has a kernel of its own for one vector in bfloat16, on a CPU or where Triton's serves it, without gradients:
    packed from its factors, it lives until one of them is written to (which `.data` hides), or a pass with gradients
    begins."""

    on_gpu: ClassVar[chosen.Name]
    """The kernel's name there."""

    def __init__(self, inputs: int, outputs: int, *, gain: float, compute_dtype: torch.dtype) -> None:
        super().__init__(inputs, outputs, gain=gain, compute_dtype=compute_dtype)
        self._kernel: Callable[[Tensor], Tensor] | None = None
        self._kernel_for: Seen = ()

    @abstractmethod
    def pack(self) -> Callable[[Tensor], Tensor]:
        """[i] -> [o] in float32, for factors as they are now."""

    def by_kernel(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"] | None:
        """None for all but such a vector."""
        if torch.compiler.is_compiling():
            return None
        if torch.is_grad_enabled():
            self._kernel, self._kernel_for = None, ()
            return None
        if x.numel() != self.inputs or x.dtype != torch.bfloat16:
            return None
        if x.device.type != "cpu" and not chosen.serves(x.device, self.on_gpu):
            return None
        parameters = tuple(self.parameters())
        if self._kernel is None or not unchanged(parameters, self._kernel_for):
            self._kernel, self._kernel_for = self.pack(), seen(parameters)
        return self._kernel(x.flatten()).to(x.dtype).view(*x.shape[:-1], self.outputs)


Seen = tuple[tuple[Tensor, int | None], ...]


def seen(tensors: tuple[Tensor, ...]) -> Seen:
    """What something was made of. The aliases keep storage alive: no other tensor can come to lie at its address."""
    return tuple((t.detach(), None if t.is_inference() else t._version) for t in tensors)


def unchanged(tensors: tuple[Tensor, ...], before: Seen) -> bool:
    """Whether each is still the same memory and was not written to; of inference tensors nobody can tell."""
    return len(tensors) == len(before) and all(
        version is not None and not now.is_inference() and now._version == version
        and now.data_ptr() == then.data_ptr() and now.device == then.device and now.shape == then.shape
        for now, (then, version) in zip(tensors, before, strict=True)
    )  # fmt: skip


def counted(module: nn.Module, flops_per_token: float) -> Group:
    """Its numbers, and how many of them are not trained."""
    stored = sum(parameter.numel() for parameter in module.parameters())
    frozen = sum(parameter.numel() for parameter in module.parameters() if not parameter.requires_grad)
    return Group(stored, stored, frozen=frozen, flops_per_token=flops_per_token)


class Factorised(Packed):
    """Applied factor by factor: compute falls with the numbers stored.

    A kernel multiplies one vector with float32 sums between the factors, in C where there is a compiler, in Triton on
    a GPU, and on a CPU else by torch: they differ by the order of sums, and all from several vectors at once by
    bfloat16's rounding.
    """

    @abstractmethod
    def product(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """x W^T by torch; x in the compute dtype."""

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """x of any dtype; the result is in the compute dtype."""
        x = x.to(self.compute_dtype)
        found = self.by_kernel(x)
        return self.product(x) if found is None else found

    def tally(self) -> Group:
        return counted(self, 2.0 * sum(parameter.numel() for parameter in self.parameters()))

    @torch.no_grad()
    def weight(self) -> Float[Tensor, "o i"]:
        device = next(self.parameters()).device
        return self(torch.eye(self.inputs, device=device, dtype=self.compute_dtype)).t().contiguous()


class Generator(ABC):
    """The mathematics of a basis, on tensors alone. Frozen, so that it can be part of a compiled graph, and compares
    equal to another of the same settings."""

    @abstractmethod
    def generate(self, *factors: Tensor) -> Float[Tensor, "o i"]:
        """W in the factors' dtype."""

    @abstractmethod
    def again(
        self, weight_gradient: Float[Tensor, "o i"], *factors: Tensor
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        """(W, gradient of each factor), W the same bits as `generate` gave. May overwrite `weight_gradient`."""


class RecomputedProduct(torch.autograd.Function):
    """x W^T without keeping W: dW = dy^T x, the generator's own gradients of its factors, dx = dy W."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: FunctionCtx, inputs: Float[Tensor, "... i"], generator: Generator, *factors: Tensor
    ) -> Float[Tensor, "... o"]:
        ctx.save_for_backward(inputs, *factors)
        ctx.generator = generator  # pyright: ignore[reportAttributeAccessIssue]
        return F.linear(inputs, generator.generate(*factors).to(inputs.dtype))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, output_gradient: Float[Tensor, "... o"]
    ) -> tuple[Tensor | None, ...]:
        inputs, *factors = ctx.saved_tensors
        rows = output_gradient.reshape(-1, output_gradient.shape[-1])
        gradients: tuple[Tensor | None, ...]
        if any(ctx.needs_input_grad[2:]):
            weight_gradient = torch.mm(rows.t(), inputs.reshape(-1, inputs.shape[-1])).to(factors[0].dtype)
            weight, gradients = ctx.generator.again(weight_gradient, *factors)
        else:
            weight, gradients = ctx.generator.generate(*factors), (None,) * len(factors)
        input_gradient = torch.mm(rows, weight.to(inputs.dtype)).view(inputs.shape) if ctx.needs_input_grad[0] else None
        return input_gradient, None, *gradients


class Generated(HarmonicLinear):
    """Multiplied as a matrix that is made anew in every pass with gradients, and kept between passes without."""

    cached: Tensor | None
    """The generated matrix between calls without gradients; no part of the state."""

    def __init__(
        self, inputs: int, outputs: int, generator: Generator, *, gain: float, compute_dtype: torch.dtype
    ) -> None:
        super().__init__(inputs, outputs, gain=gain, compute_dtype=compute_dtype)
        self.generator = generator
        self.cached = None
        self._cached_settings: tuple[object, ...] = ()
        self._cached_for: Seen = ()

    def forward(self, x: Float[Tensor, "... i"]) -> Float[Tensor, "... o"]:
        """x of any dtype; the result is in the compute dtype."""
        x = x.to(self.compute_dtype)
        if not torch.compiler.is_compiling():
            if not torch.is_grad_enabled():
                return F.linear(x, self._cached_weight())
            self.cached = None  # training changes the weights at once: do not hold a dense copy of them meanwhile
        return cast(Tensor, RecomputedProduct.apply(x, self.generator, *self.factors()))

    def stored(self) -> tuple[Tensor, ...]:
        """All that the matrix is made from: here its parameters."""
        return tuple(self.parameters())

    def factors(self) -> tuple[Tensor, ...]:
        """The generator's: here what is stored, in the order in which it was assigned."""
        return self.stored()

    @torch.no_grad()
    def weight(self) -> Float[Tensor, "o i"]:
        """The generated matrix in the compute dtype: the same bits as forward and backward use."""
        return self.generator.generate(*self.factors()).to(self.compute_dtype)

    def _cached_weight(self) -> Float[Tensor, "o i"]:
        """Without gradients the matrix is kept, until a parameter is written to (its version counter moves), replaced
        (its address or device moves), or a forward pass with gradients begins."""
        stored, settings = self.stored(), (self.compute_dtype, self.generator)
        if self.cached is None or settings != self._cached_settings or not unchanged(stored, self._cached_for):
            self.cached, self._cached_settings, self._cached_for = self.weight(), settings, seen(stored)
        return self.cached
