"""Rows of atoms and their gradients, on a CPU by atoms.c, on a GPU by rows_on_gpu.py.

W[o, i] = sum_k a_ok atom_ok(i), as bases/rows.py has them.

Torch evaluates every atom at every index. In C a Gaussian or Gabor atom is evaluated within 6.5 of its widths alone,
ten indices for a narrow one: what is left out is, of values and of derivatives, below 2^-24 of what they are at most.
A cosine costs one rotation an index. For float32; all else (float64, a graph that is compiled, tensors that stand for
others, no compiler, a GPU that no kernel serves) is None, and torch's to do.

The same call gives the same bits, and the W that comes with gradients those of the W that came without. From torch's it
differs by rounding: in C positions and angles are float64 until a difference or a part of a turn is taken of them,
where torch and Triton round before. In C an atom with a number that is not finite makes its row and its own gradients
NaN.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bloomery.model import native
from bloomery.systems.harmonic.kernels import chosen

SOURCE = Path(__file__).parent / "atoms.c"
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_int64
FUNCTIONS = {"make_rows": (ctypes.c_int, *[_POINTER] * 4, _LONG, ctypes.c_double, *[_LONG] * 3)}
Kind = Literal["gauss", "gabor", "cos"]
KINDS: tuple[Kind, ...] = ("gauss", "gabor", "cos")
"""In the order of atoms.c."""


def library() -> ctypes.CDLL | None:
    return native.load(SOURCE, FUNCTIONS)


@dataclass(frozen=True, slots=True)
class RowKernel:
    """factors: [o k] each. `gauss`: amplitude, centre in units, log(width / unit); `gabor`: then cycles per index step
    and phase; `cos`: amplitude, cycles per row, phase."""

    kind: Kind
    inputs: int
    unit: float = 1.0
    """Index steps."""

    def generate(self, factors: Sequence[Tensor]) -> Float[Tensor, "o i"] | None:
        found = self._call(factors, None)
        return None if found is None else found[0]

    def again(
        self, weight_gradient: Float[Tensor, "o i"], factors: Sequence[Tensor]
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]] | None:
        """(W, gradient of each factor)."""
        return self._call(factors, weight_gradient)

    def _call(
        self, factors: Sequence[Tensor], gradient: Tensor | None
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]] | None:
        given = (*factors, *(() if gradient is None else (gradient,)))
        if torch.compiler.is_compiling() or not all(map(_plain, given)):
            return None
        device = factors[0].device
        if any(tensor.device != device for tensor in given):
            return None
        if chosen.serves(device, self.kind):
            return self._on_gpu(factors, gradient)
        if device.type != "cpu" or (kernels := library()) is None:
            return None
        factors = [factor.detach().contiguous() for factor in factors]
        gradient = None if gradient is None else gradient.contiguous()
        outputs, atoms = factors[0].shape
        weight = factors[0].new_empty(outputs, self.inputs)
        into = () if gradient is None else tuple(torch.empty_like(factor) for factor in factors)
        failed = kernels.make_rows(
            _addresses(factors), None if gradient is None else gradient.data_ptr(), weight.data_ptr(), _addresses(into),
            KINDS.index(self.kind), self.unit, outputs, self.inputs, atoms,
        )  # fmt: skip
        return None if failed else (weight, into)

    def _on_gpu(
        self, factors: Sequence[Tensor], gradient: Tensor | None
    ) -> tuple[Float[Tensor, "o i"], tuple[Tensor, ...]]:
        from bloomery.systems.harmonic.kernels import rows_on_gpu

        into = () if gradient is None else rows_on_gpu.rows_again(self.kind, self.unit, gradient, factors)
        return rows_on_gpu.make_rows(self.kind, self.inputs, self.unit, factors), into


def _plain(tensor: Tensor) -> bool:
    """Memory that a kernel may read: not one of torch's stand-ins."""
    return tensor.dtype == torch.float32 and type(tensor) in (Tensor, nn.Parameter)


def _addresses(tensors: Sequence[Tensor]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(tensors))(*(tensor.data_ptr() for tensor in tensors))
