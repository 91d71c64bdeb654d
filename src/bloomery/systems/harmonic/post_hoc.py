"""Every linear of a trained dense model in the numbers of a basis, one after the other (from_dense.py).

What is done is kept in a folder, a file for each linear, so that work that is cut goes on where it was; a file that
cannot be read is made anew. Refuses models of different shapes, and weights that are not finite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from bloomery.engine.artifact import write_atomically
from bloomery.errors import TrainingError
from bloomery.model.interface import LanguageModel
from bloomery.systems.harmonic.converting import take_over, weight_of
from bloomery.systems.harmonic.from_dense import exact, from_dense
from bloomery.systems.harmonic.layers import HarmonicLinear

ENERGIES = "unexplained"


@dataclass(frozen=True, slots=True)
class Missed:
    """Shares that a linear lacks of the one that it replaces."""

    energy: float
    """|W - W'|^2 / |W|^2."""
    output_energy: float
    """E |(W - W') x|^2 / E |W x|^2 over what it reads."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A model that is being converted; `target` has the shape of `source` and generated linears."""

    target: LanguageModel
    source: LanguageModel
    folder: Path
    """Where what is done is kept: of these settings, data, seed and source alone."""

    def linears(self) -> Mapping[str, HarmonicLinear]:
        return {name: module for name, module in self.target.named_modules() if isinstance(module, HarmonicLinear)}

    def begin(self) -> dict[str, Missed]:
        """Take over what is no generated linear, and linears that are done. Raises PlanError and TrainingError."""
        take_over(self.target, self.source)
        for name in self.linears():
            if not torch.isfinite(weight_of(self.source.get_submodule(name))).all():
                raise TrainingError(f"{name}.weight", "not finite", "a matrix of numbers")
        known = ((name, self._read(name, linear)) for name, linear in self.linears().items())
        return {name: missed for name, missed in known if missed is not None}

    def go_on(
        self, done: Mapping[str, Missed], covariances: Mapping[str, Float[Tensor, "i i"]],
        fit: Callable[..., Any], after_linear: Callable[[int], None] = lambda count: None,
    ) -> dict[str, Missed]:  # fmt: skip
        """Of every linear what it misses. fit: how, see `fitting`. after_linear: told how many are done, may raise."""
        found = dict(done)
        for number, (name, linear) in enumerate(self.linears().items()):
            if name in found:
                continue
            weight, covariance = weight_of(self.source.get_submodule(name)).cpu(), covariances[name]
            try:
                fitted = fit(weight, covariance, linear, number)
            except TrainingError as error:
                raise TrainingError(f"{name}: {error.where}", error.found, error.expected, error.hint) from None
            found[name] = missed(weight, exact(fitted), covariance)
            self._keep(name, fitted, found[name])
            assign(linear, dict(fitted.named_parameters()))
            after_linear(len(found))
        return {name: found[name] for name in self.linears()}

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"

    def _keep(self, name: str, linear: HarmonicLinear, missed: Missed) -> None:
        tensors = {local: parameter.detach().contiguous() for local, parameter in linear.named_parameters()}
        tensors[ENERGIES] = torch.tensor([missed.energy, missed.output_energy], dtype=torch.float64)
        write_atomically(self._file(name), save(tensors))

    def _read(self, name: str, linear: HarmonicLinear) -> Missed | None:
        try:
            tensors = load(self._file(name).read_bytes())
            missed = Missed(*tensors.pop(ENERGIES).tolist())
            assign(linear, tensors)
        except (OSError, SafetensorError, KeyError, TypeError, RuntimeError):
            return None
        return missed


@torch.no_grad()
def assign(linear: HarmonicLinear, tensors: Mapping[str, Tensor]) -> None:
    for name, parameter in linear.named_parameters():
        parameter.copy_(tensors[name])


def fitting(basis: str, compression: float, *, weighted: bool, seed: int, **more: Any) -> Callable[..., HarmonicLinear]:
    """`fit` of `go_on`. weighted: in the metric of what a linear reads. more: as from_dense takes it."""

    def fit(weight: Tensor, covariance: Tensor, linear: HarmonicLinear, number: int) -> HarmonicLinear:
        own_seed = (seed << 16) + number
        given = covariance if weighted else None
        gain = linear.initial_gain
        return from_dense(weight, basis, compression, given, gain=gain, seed=own_seed, **more).linear

    return fit


def missed(
    weight: Float[Tensor, "o i"], found: Float[Tensor, "o i"], covariance: Float[Tensor, "i i"]
) -> Missed:  # fmt: skip
    """In float64. A linear that reads nothing but zeros misses nothing of its outputs."""
    lacking = weight.double() - found.double()
    outputs = [float(((each @ covariance) * each).sum()) for each in (lacking, weight.double())]
    share = outputs[0] / outputs[1] if outputs[1] > 0 else 0.0
    return Missed(float(lacking.square().sum() / weight.double().square().sum()), share)


def means(found: Mapping[str, Missed]) -> Missed:
    """Over linears, each counting the same."""
    count = len(found)
    return Missed(
        sum(each.energy for each in found.values()) / count, sum(each.output_energy for each in found.values()) / count
    )


def named(found: Mapping[str, Missed]) -> Iterator[tuple[str, float]]:
    """(metric, value) of all, then of every linear: `convert/blocks_0_attention_query/unexplained_energy`."""
    for prefix, each in (("convert", means(found)), *((f"convert/{k.replace('.', '_')}", v) for k, v in found.items())):
        yield f"{prefix}/unexplained_energy", each.energy
        yield f"{prefix}/unexplained_output_energy", each.output_energy
