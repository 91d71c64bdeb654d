"""The table of bases, and `make`: the one place that knows which class makes which. See `sizes` for their formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

TABLE: Mapping[str, Callable[..., HarmonicLinear]] = {
    "sine": SineLinear,
    "monarch": MonarchLinear,
    "lowrank": LowRankLinear,
    "kron": KronLinear,
    "hashed": HashedLinear,
    "row_gauss": RowGaussLinear,
    "row_scale_space": RowScaleSpaceLinear,
    "row_gabor": RowGaborLinear,
    "row_cos": RowCosLinear,
}
"""basis -> (inputs, outputs, components, *, gain, compute_dtype, **those of sizes.OPTIONS)"""


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

    options: of all bases (omega, blocks, atom_width): each reads its own, `sizes.OPTIONS`.
    compression below 1: more than the matrix.
    """
    components = sizes.size(basis, inputs, outputs, compression).components
    assert components >= 1, "HarmonicConfig refuses shapes without a component"
    own = {name: value for name, value in options.items() if name in sizes.OPTIONS.get(basis, ())}
    return TABLE[basis](inputs, outputs, components, gain=gain, compute_dtype=compute_dtype, **own)
