"""from_dense: the linear of a basis and size that is nearest to a given matrix, and how near that is (spec 1.6, 2.3).

| basis                | fit                                                                            | optimal      |
|----------------------|--------------------------------------------------------------------------------|--------------|
| lowrank              | singular values of W S (activation-aware with a covariance C = S S)            | yes          |
| monarch              | singular values of every block, each in the metric of its own inputs           | without C    |
| kron                 | singular values of the rearranged matrix (Van Loan and Pitsianis 1993)         | without C    |
| hashed               | weighted mean of the entries that share a value                                | C diagonal   |
| row_gauss, row_gabor | matching pursuit over widths, centres, frequencies; amplitudes solved anew     | no           |
| row_cos              | the same over whole frequencies: without C the largest of the spectrum         | on that grid |
| sine                 | small phases, where a sine is nearly linear: the low-rank fit of its rank      | no           |

and then, if asked for, `steps` of Adam at the natural scales, of which the best is kept. Unexplained energy and loss
disagree (spec 2.3): an index-harmonic form may explain as much as a low-rank one and cost far more loss. A `start` of
random or zero is what a fit is measured against: components as they are drawn, and a matrix of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.errors import TrainingError
from bloomery.systems.harmonic import bases, sizes
from bloomery.systems.harmonic.layers import HarmonicLinear
from bloomery.systems.harmonic.metric import Metric

Start = Literal["fit", "random", "zero"]


@dataclass(frozen=True, slots=True)
class Conversion:
    linear: HarmonicLinear
    unexplained: float
    """Share of the matrix's energy (squared entries) that is missed."""
    unexplained_outputs: float
    """The same of the outputs' energy under the covariance; without one the same number."""


def from_dense(
    weight: Float[Tensor, "o i"],
    basis: str,
    compression: float,
    covariance: Float[Tensor, "i i"] | None = None,
    *,
    gain: float = 1.0,
    compute_dtype: torch.dtype = torch.float32,
    start: Start = "fit",
    seed: int = 0,
    steps: int = 0,
    rate: float = 0.03,
    **options: Any,
) -> Conversion:
    """covariance: E x x^T of what the layer reads, up to a factor. gain, compute_dtype, options: as `bases.make` takes
    them. start: what Adam begins with; seed: of a random start. steps, rate: of Adam, relative to each factor's natural
    scale; the start is kept where it does not help.

    compression below 1 is allowed: a whole budget shows what is lost to the form alone. Raises TrainingError.
    """
    outputs, inputs = weight.shape
    if sizes.size(basis, inputs, outputs, compression).components < 1:
        most = sizes.largest_compression(basis, inputs, outputs)
        found = f"{compression:g} leaves {basis} ({inputs} -> {outputs}) without a component"
        raise TrainingError("compression", found, f"at most {most:.4g}")
    if not torch.isfinite(weight).all():
        raise TrainingError("weight", "not finite", "a matrix of numbers")
    if not weight.any():
        raise TrainingError("weight", "all zeros", "a matrix with something to miss")
    metric = Metric.of(covariance)
    linear = bases.make(basis, inputs, outputs, compression, gain, compute_dtype, **options)
    target = weight.detach().double().cpu()
    linear.initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        if start == "fit":
            linear.fit(target, metric)
        elif start == "zero":
            silence(linear)
    if steps:
        refine(linear, target, metric, steps, rate)
    found = exact(linear)
    return Conversion(linear, Metric().unexplained(target, found), metric.unexplained(target, found))


def silence(linear: HarmonicLinear) -> None:
    """Make W zero by one factor in which it is linear: the others, as drawn, let that one learn."""
    name = next(name for name, scale in linear.scales().items() if scale.group != "centres")
    linear.get_parameter(name).zero_()


@torch.no_grad()
def exact(linear: HarmonicLinear) -> Float[Tensor, "o i"]:
    """W in the parameters' own precision."""
    return product(linear, torch.eye(linear.inputs)).t()


def product(linear: HarmonicLinear, x: Float[Tensor, "n i"]) -> Float[Tensor, "n o"]:
    """x W^T in float32, whatever the compute dtype."""
    before, linear.compute_dtype = linear.compute_dtype, torch.float32
    try:
        return linear(x)
    finally:
        linear.compute_dtype = before


def refine(linear: HarmonicLinear, weight: Float[Tensor, "o i"], metric: Metric, steps: int, rate: float) -> None:
    """Adam on the missed energy, each factor's rate relative to its natural scale, falling as a cosine. The best of all
    steps, the start included, is kept."""
    directions = (torch.eye(linear.inputs) if metric.root is None else metric.root).float()
    wanted = metric.apply(weight).float()
    whole = wanted.square().sum()
    scales = linear.scales()
    optimiser = torch.optim.Adam(
        [
            {"params": [parameter], "lr": rate * scales[name].initial_scale}
            for name, parameter in linear.named_parameters()
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    best, kept = float("inf"), {}
    with torch.enable_grad():
        for _ in range(steps + 1):
            missed = (product(linear, directions).t() - wanted).square().sum() / whole
            if missed.item() < best:
                best, kept = missed.item(), {name: p.detach().clone() for name, p in linear.named_parameters()}
            optimiser.zero_grad()
            missed.backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        for name, parameter in linear.named_parameters():
            parameter.copy_(kept[name])
            parameter.grad = None
