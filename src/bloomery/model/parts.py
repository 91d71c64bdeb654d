"""What a system may put into the dense frame in place of a stored matrix: linears, their factory, and numbers that
several linears share. Protocols; refuses nothing.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.measure import Group
from bloomery.model.interface import Scale


class Shared(Protocol):
    """Numbers of a model's own. Must be an nn.Module."""

    def initialise(self, generator: torch.Generator | None = None) -> None:
        """Draw its own parameters anew."""
        ...

    def scales(self) -> dict[str, Scale]:
        """{local parameter name: Scale}: an exact cover of its parameters."""
        ...

    def tally(self) -> Group:
        """Its numbers, counted from itself; flops_per_token includes whatever generates the weights."""
        ...


@runtime_checkable
class BlockLinear(Shared, Protocol):
    """A map from `inputs` to `outputs` features, however it is stored. Must be an nn.Module."""

    def __call__(self, x: Float[Tensor, "... i"], /) -> Float[Tensor, "... o"]: ...


@runtime_checkable
class LinearFactory(Protocol):
    """Makes one linear of a block.

    name: `blocks.3.attention.query`, unique in the model. group: attention or feed_forward, used where the linear has
    no group of its own. gain: multiplies the natural scale 1/sqrt(inputs) (1/sqrt(2 layers) for residual outputs).
    """

    def __call__(
        self, inputs: int, outputs: int, *, name: str, group: str, gain: float, compute_dtype: torch.dtype
    ) -> BlockLinear: ...
