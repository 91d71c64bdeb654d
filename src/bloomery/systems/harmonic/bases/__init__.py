"""The table of bases, and `make`: the one place that knows which class makes which. See `sizes` for their formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from bloomery.systems.harmonic import sizes
from bloomery.systems.harmonic.bases.hashed import HashedLinear
from bloomery.systems.harmonic.bases.kron import KronLinear
from bloomery.systems.harmonic.bases.lowrank import LowRankLinear
from bloomery.systems.harmonic.bases.monarch import MonarchLinear
from bloomery.systems.harmonic.bases.row_cos import RowCosLinear
from bloomery.systems.harmonic.bases.row_gabor import RowGaborLinear
from bloomery.systems.harmonic.bases.row_gauss import RowGaussLinear
from bloomery.systems.harmonic.bases.row_scale_space import RowScaleSpaceLinear
from bloomery.systems.harmonic.bases.sine import SineLinear
from bloomery.systems.harmonic.layers import HarmonicLinear


@dataclass(frozen=True, slots=True)
class Basis:
    make: Callable[..., HarmonicLinear]
    """(inputs, outputs, components, *, gain, compute_dtype, **options)"""
    options: tuple[str, ...] = ()
    """Of HarmonicConfig's keys those that it reads."""


TABLE: Mapping[str, Basis] = {
    "sine": Basis(SineLinear, ("omega",)),
    "monarch": Basis(MonarchLinear, ("blocks",)),
    "lowrank": Basis(LowRankLinear),
    "kron": Basis(KronLinear),
    "hashed": Basis(HashedLinear),
    "row_gauss": Basis(RowGaussLinear, ("atom_width",)),
    "row_scale_space": Basis(RowScaleSpaceLinear),
    "row_gabor": Basis(RowGaborLinear, ("atom_width",)),
    "row_cos": Basis(RowCosLinear),
}


def make(
    basis: str,
    inputs: int,
    outputs: int,
    compression: float,
    gain: float = 1.0,
    compute_dtype: torch.dtype = torch.float32,
    **options: Any,
) -> HarmonicLinear:
    """A linear of the largest size that stores at most inputs * outputs / compression numbers; not yet initialised.

    options: of all bases (omega, blocks, atom_width): each reads its own. compression below 1: more than the matrix.
    """
    chosen = TABLE[basis]
    components = sizes.size(basis, inputs, outputs, compression).components
    assert components >= 1, "HarmonicConfig refuses shapes without a component"
    own = {name: value for name, value in options.items() if name in chosen.options}
    return chosen.make(inputs, outputs, components, gain=gain, compute_dtype=compute_dtype, **own)
