"""from_harmonic: the numbers of a level from the trained weights of the one below (spec 1.3, 1.6).

Shared coordinates: tables C_w and matrices T_l that come nearest to what they have to make, P_l ~ C_M T_l C_N^T, all
matrices at once and each relative to its own size. With orthogonal tables that is T_l = C_M^T P_l C_N, and each table
in turn the largest eigenvectors of sum P C C^T P^T (outputs) and P^T C C^T P (inputs): a Tucker decomposition by
higher-order orthogonal iteration (De Lathauwer et al. 2000). There are two ways to state P, and that is taken whose
weights come nearer:

    phases      of a sine linear of the same omega, P = U V: exact where the tables hold all of U and V, else sines of
                wrong phases
    weights     P = W / (omega gain) with one gain for all rows, so large that sines are nearly their arguments; then
                the gains of rows by least squares. The only way for other bases, dense matrices and low_rank

Level 3: B_j = (2 - [j = 0]) / L sum_l cos(pi j (l + 1/2) / L) T_l, the DCT-II: least squares, exact with as many
harmonics as layers.

A level keeps few of the numbers of the one below, and trained matrices are not smooth in any index: expect most of
their energy to be lost (`Conversion.unexplained_energy`) and see what recovery brings. Refuses the literal form:
measured on a trained model, eight smooth functions of the row index keep 1.8 % of the parameters' variance, and the
loss is that of all linears set to zero (spec 0.3); it can be trained from the start, to be refuted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from bloomery.errors import PlanError
from bloomery.model.dense import Transformer
from bloomery.model.interface import LanguageModel
from bloomery.model.layers import Linear
from bloomery.systems.harmonic.bases.sine import Sine, SineLinear
from bloomery.systems.harmonic.layers import Generated, HarmonicLinear
from bloomery.systems.harmonic.levels import depth_wave
from bloomery.systems.harmonic.meta import MetaHarmonicLinear, SharedLowRankLinear, SharedNumbers

ROUNDS = 4
"""Of the iteration over tables; each begins where the last one ended."""
SMALL_PHASE = 0.3
"""Root mean square of a matrix's phases where sines stand for their arguments."""


@dataclass(frozen=True, slots=True)
class Conversion:
    unexplained_energy: float
    """Mean over linears of |W - W'|^2 / |W|^2."""
    way: str
    """phases, weights or depth."""


@torch.no_grad()
def from_harmonic(target: LanguageModel, source: LanguageModel) -> Conversion:
    """Give `target`, of level 2 or 3, the weights of `source`, which has its shape: what both have by the same name is
    copied, its linears are fitted. Raises PlanError where the form or the shapes do not let it."""
    take_over(target, source)
    assert isinstance(target, Transformer)
    linears = [(name, module) for name, module in target.named_modules() if isinstance(module, Meta)]
    if not linears:
        raise PlanError(
            "form", "literal", "shared_coordinates or low_rank",
            "trained rows are not smooth in their index: it keeps 1.8 % of them; train it from the start",
        )  # fmt: skip
    goals = [source.get_submodule(name) for name, _ in linears]
    meta = [module for _, module in linears]
    if meta[0].mix.own is None:
        if not all(isinstance(goal, Meta) and type(goal) is type(meta[0]) for goal in goals):
            raise PlanError("model", "a model without matrices over depth", "a model of level 2 of the same form")
        _fit_depth(target, meta, [cast("Meta", goal) for goal in goals])
        return Conversion(_unexplained(meta, goals), "depth")
    ways = {"weights": _fit_weights}
    if all(isinstance(goal, SineLinear) and _same_sine(goal, each) for goal, each in zip(goals, meta, strict=True)):
        ways["phases"] = _fit_phases
    found: list[tuple[float, str]] = []
    for way, fit in ways.items():
        fit(target, meta, goals)
        found.append((_unexplained(meta, goals), way))
    best = min(found)
    if best != found[-1]:
        ways[best[1]](target, meta, goals)
    return Conversion(*best)


@torch.no_grad()
def take_over(target: LanguageModel, source: LanguageModel) -> None:
    """Copy what is no linear of a block. Raises PlanError for models of different shapes."""
    assert isinstance(target, Transformer)
    if not isinstance(source, Transformer) or source.config != target.config:
        raise PlanError("model", f"a {type(source).__name__} of another shape", f"{target.config!r}"[:200])
    own, theirs = linears_of(target), dict(source.named_parameters())
    for name, parameter in target.named_parameters():
        if name not in own:
            parameter.copy_(theirs[name])


def freeze_linears(model: LanguageModel) -> None:
    """Leave the linears of the blocks, and what they share, as they are."""
    own = linears_of(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in own)


def linears_of(model: LanguageModel) -> set[str]:
    """Names of the parameters from which the linears of the blocks are made."""
    modules = [(name, module) for name, module in model.named_modules() if isinstance(module, HarmonicLinear)]
    own = {f"{name}.{local}" for name, module in modules for local, _ in module.named_parameters()}
    return own | {name for name, _ in model.named_parameters() if name.startswith("shared.")}


Meta = MetaHarmonicLinear | SharedLowRankLinear


def _same_sine(goal: SineLinear, linear: Meta) -> bool:
    return isinstance(linear, MetaHarmonicLinear) and linear.generator == goal.generator


def weight_of(linear: torch.nn.Module) -> Float[Tensor, "o i"]:
    """A linear's matrix in float64, whatever the compute dtype of the levels."""
    if isinstance(linear, Linear):
        return linear.weight.detach().double()
    if isinstance(linear, Generated):
        return linear.generator.generate(*linear.factors()).detach().double()
    if isinstance(linear, SharedLowRankLinear):
        return linear.matrix().detach().double()
    assert isinstance(linear, HarmonicLinear)
    return linear.weight().double()


def _shared(model: Transformer) -> SharedNumbers:
    assert isinstance(model.shared, SharedNumbers)
    return model.shared


def _unexplained(meta: Sequence[Meta], goals: Sequence[torch.nn.Module]) -> float:
    shares = []
    for linear, goal in zip(meta, goals, strict=True):
        wanted = weight_of(goal)
        shares.append(float((weight_of(linear) - wanted).square().sum() / wanted.square().sum().clamp(min=1e-30)))
    return math.fsum(shares) / len(shares)


def _fit_phases(target: Transformer, meta: Sequence[Meta], goals: Sequence[torch.nn.Module]) -> None:
    sines = [cast(SineLinear, goal) for goal in goals]
    _fit_tables(target, meta, [each.out_coordinates.double() @ each.in_coordinates.double() for each in sines])
    for linear, goal in zip(meta, sines, strict=True):
        linear.gain.copy_(goal.gain)


def _fit_weights(target: Transformer, meta: Sequence[Meta], goals: Sequence[torch.nn.Module]) -> None:
    weights, products = [weight_of(goal) for goal in goals], []
    for linear, weight in zip(meta, weights, strict=True):
        gain, omega = weight.square().mean().sqrt().clamp(min=1e-12), 1.0
        if isinstance(linear, MetaHarmonicLinear):
            gain, omega = gain / SMALL_PHASE, cast("Sine", linear.generator).omega
        linear.gain.fill_(float(gain))
        products.append(weight / (omega * gain))
    _fit_tables(target, meta, products)
    for linear, weight in zip(meta, weights, strict=True):
        found = weight_of(linear)
        energy = found.square().sum(1)
        better = torch.where(energy > 0, (found * weight).sum(1) / energy.clamp(min=1e-30), torch.ones_like(energy))
        linear.gain.mul_(better)


def _fit_tables(target: Transformer, meta: Sequence[Meta], wanted: Sequence[Float[Tensor, "o i"]]) -> None:
    """Tables and matrices whose products come nearest to `wanted`, a matrix for each linear, in float64."""
    tables = _shared(target).tables
    components = _shared(target).components
    sized = [matrix / torch.linalg.matrix_norm(matrix).clamp(min=1e-30) for matrix in wanted]
    turns: dict[int, Tensor] = {}
    for _ in range(ROUNDS):
        turns = {int(width): _table(int(width), meta, sized, turns, components) for width in tables}
    for width, turn in turns.items():
        tables[str(width)].copy_(turn * math.sqrt(width))
    for linear, matrix in zip(meta, wanted, strict=True):
        mix = turns[linear.outputs].t() @ matrix @ turns[linear.inputs]
        assert linear.mix.own is not None
        linear.mix.own.copy_(mix / math.sqrt(linear.outputs * linear.inputs))


def _table(
    width: int, meta: Sequence[Meta], sized: Sequence[Tensor], turns: Mapping[int, Tensor], components: int
) -> Float[Tensor, "w r"]:
    """Orthonormal columns (zero beyond `width`) that keep most of all matrices, given the other tables."""
    gathered = sized[0].new_zeros(width, width)
    for linear, matrix in zip(meta, sized, strict=True):
        if linear.outputs == width:
            seen = matrix @ turns[linear.inputs] if turns else matrix
            gathered += seen @ seen.t()
        if linear.inputs == width:
            seen = matrix.t() @ turns[linear.outputs] if turns else matrix.t()
            gathered += seen @ seen.t()
    _, vectors = torch.linalg.eigh(gathered)
    found = vectors[:, -components:].flip(1)
    return torch.nn.functional.pad(found, (0, components - found.shape[1]))


def _fit_depth(target: Transformer, meta: Sequence[Meta], goals: Sequence[Meta]) -> None:
    layers, shared = target.config.layers, _shared(target)
    for name, table in shared.tables.items():
        table.copy_(goals[0].mix.table(int(name)))
    per_kind: dict[str, list[Tensor]] = {}
    for linear, goal in zip(meta, goals, strict=True):
        linear.gain.copy_(goal.gain)
        per_kind.setdefault(linear.mix.kind, []).append(goal.mix().double())  # from the first layer to the last
    for kind, mixes in per_kind.items():
        harmonics = shared.harmonics[kind]
        for order in range(harmonics.shape[0]):
            waves = [depth_wave(order, layer, layers) for layer in range(layers)]
            total = torch.stack([wave * mix for wave, mix in zip(waves, mixes, strict=True)]).sum(0)
            harmonics[order].copy_(total * (1 if order == 0 else 2) / layers)
