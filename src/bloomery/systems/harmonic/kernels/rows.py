"""Decoding with rows made of atoms: one vector in, one out, without making the rows.

    TapsDecode         narrow Gaussians (width below about one index step): each atom is its four nearest taps
    ScaleSpaceDecode   any width: each atom is one bilinear look-up in the blurred input (scale_space.py)

An atom is a place in a table and four bfloat16 weights, ten bytes; sums are float32. The C side is `rows.c`, a GPU's
`rows_on_gpu.py`, where a place takes four bytes and the table is a plain sum; without them torch sums the same rounded
weights. The four taps of TapsDecode are exp(-(i - c)^2 / 2 s^2) times the amplitude; what lies outside them is left
out: at most exp(-2 / s^2) of an atom's height, 1.7 % at s = 0.7 and 14 % at s = 1.
ScaleSpaceDecode's table is made in C by a recursion (Deriche, INRIA report 1893, 1993) whose kernel is within 0.0006 of
the Gaussian's height: its results differ from torch's by less than a thousandth of the output's norm.
Tables of more than 65,536 numbers are left to torch: places are 16 bits wide.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import BFloat16, Float, Int
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.kernels import chosen
from bloomery.systems.harmonic.kernels.scale_space import Levels, between, blurred

SOURCE = Path(__file__).parent / "rows.c"
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_int64
FUNCTIONS = {
    "taps": (None, *[_POINTER] * 4, *[_LONG] * 2),
    "look_ups": (None, *[_POINTER] * 4, *[_LONG] * 3),
    "pyramid": (None, *[_POINTER] * 4, *[_LONG] * 2),
}
FOUR, EIGHT = 4, 8
PLACES = 2**16
WAVES = (1.68, 3.735, 1.783, 0.6318, -0.6803, -0.2598, 1.723, 1.997)
"""Deriche's fourth order: exp(-u^2 / 2) is nearly the sum over both waves (amplitude of the cosine, of the sine, decay,
frequency) of (a cos(w u) + b sin(w u)) exp(-d u), u >= 0."""


def library() -> ctypes.CDLL | None:
    return native.load(SOURCE, FUNCTIONS)


@functools.cache
def _kernels() -> ctypes.CDLL:
    """For atoms that were packed, which they are only if there is a library; looking it up again costs 20 us."""
    found = library()
    assert found is not None, "packed by this process"
    return found


@dataclass(frozen=True, slots=True)
class Atoms:
    """What both forms are for the C side: where [o k] into a flat table, and four weights each."""

    where: Int[Tensor, "o k"]
    weights: BFloat16[Tensor, "o k 4"]
    step: int
    packed: tuple[Tensor, Tensor] | None

    @staticmethod
    def pack(where: Int[Tensor, "o k"], weights: Float[Tensor, "o k 4"], step: int, size: int) -> Atoms:
        """size: numbers in the table; step: from an atom's first pair of numbers to its second."""
        rounded = weights.detach().to(torch.bfloat16)
        packed = None
        if where.device.type == "cpu" and size <= PLACES and library() is not None:
            missing = -where.shape[1] % FOUR
            places = torch.nn.functional.pad(where, (0, missing)).to(torch.uint16)
            words = torch.nn.functional.pad(rounded, (0, 0, 0, missing))
            words = words.reshape(len(where), -1, 2, 2 * FOUR).transpose(2, 3)  # atoms 0, 1 low and 2, 3 high
            packed = (places.contiguous(), words.contiguous())
        if where.device.type != "cpu":
            where = where.int()  # half of what a GPU reads for an atom would be its place
        return Atoms(where, rounded, step, packed)

    def of(self, table: Float[Tensor, " n"]) -> Float[Tensor, " o"]:
        if chosen.serves(table.device, "scale_space"):
            from bloomery.systems.harmonic.kernels import rows_on_gpu

            return rows_on_gpu.look_ups(self.where, self.weights, table, self.step)
        if self.packed is None:
            offsets = torch.tensor((0, 1, self.step, self.step + 1), device=table.device)
            return (table[self.where[..., None] + offsets] * self.weights.float()).sum((1, 2))
        where, weights = self.packed
        y = table.new_empty(len(where))
        shape = (len(where), where.shape[1] // FOUR)
        pointers = (where.data_ptr(), weights.data_ptr(), table.data_ptr(), y.data_ptr())
        if self.step == 2:
            _kernels().taps(*pointers, *shape)
        else:
            _kernels().look_ups(*pointers, *shape, self.step)
        return y


@dataclass(frozen=True, slots=True)
class TapsDecode:
    inputs: int
    atoms: Atoms

    @staticmethod
    def pack(
        inputs: int, amplitude: Float[Tensor, "o k"], centre: Float[Tensor, "o k"], width: Float[Tensor, "o k"]
    ) -> TapsDecode:
        """centre and width in index steps: input i lies at i. Needs four inputs."""
        assert inputs >= FOUR, "an atom has four taps"
        first = (centre.detach().floor().long() - 1).clamp(0, inputs - FOUR)
        taps = first[..., None] + torch.arange(FOUR, device=first.device)
        away = (taps - centre.detach()[..., None]) / width.detach()[..., None]
        weights = amplitude.detach()[..., None] * torch.exp(-0.5 * away.square())
        return TapsDecode(inputs, Atoms.pack(first, weights, 2, inputs))

    def __call__(self, x: Float[Tensor, " i"]) -> Float[Tensor, " o"]:
        """x in any dtype; the result is float32."""
        return self.atoms.of(_vector(x, self.inputs))


@dataclass(frozen=True, slots=True)
class ScaleSpaceDecode:
    inputs: int
    levels: Levels
    atoms: Atoms

    @staticmethod
    def pack(
        inputs: int,
        amplitude: Float[Tensor, "o k"],
        centre: Float[Tensor, "o k"],
        width: Float[Tensor, "o k"],
        levels: Levels,
    ) -> ScaleSpaceDecode:
        """amplitude of Gaussians of area one, as in `scale_space_rows`; centre and width in index steps."""
        i, f = between(centre.detach(), inputs)
        j, g = between(levels.level_of(width.detach()), levels.count)
        step = _padded(levels.count)
        shares = torch.stack([(1 - f) * (1 - g), (1 - f) * g, f * (1 - g), f * g], dim=-1)
        atoms = Atoms.pack(i * step + j, amplitude.detach()[..., None] * shares, step, inputs * step)
        return ScaleSpaceDecode(inputs, levels, atoms)

    def __call__(self, x: Float[Tensor, " i"]) -> Float[Tensor, " o"]:
        x = _vector(x, self.inputs)
        if self.atoms.packed is None or chosen.serves(x.device, "scale_space"):
            return self.atoms.of(table(x, self.levels))
        return self.atoms.of(_table_in_c(x, self.levels))


def table(x: Float[Tensor, " i"], levels: Levels) -> Float[Tensor, " n"]:
    """The blurred input [i l] as ScaleSpaceDecode reads it: levels filled up to a multiple of eight, flat. It serves
    every matrix that reads this vector (`decode.atoms.of(table)`): queries, keys and values share one."""
    if chosen.serves(x.device, "scale_space"):
        from bloomery.systems.harmonic.kernels import rows_on_gpu

        step = _padded(levels.count)
        return rows_on_gpu.pyramid(x, levels.smallest, levels.ratio, levels.count, step)
    if x.device.type == "cpu" and library() is not None:
        return _table_in_c(_vector(x, x.shape[0]), levels)
    found = blurred(x, levels)
    return torch.nn.functional.pad(found, (0, _padded(levels.count) - levels.count)).flatten()


def _table_in_c(x: Float[Tensor, " i"], levels: Levels) -> Float[Tensor, " n"]:
    filled, widths, waves = _recursion(levels)
    out = x.new_empty(x.shape[0] * filled)
    _kernels().pyramid(x.data_ptr(), widths, waves, out.data_ptr(), x.shape[0], filled)
    return out


@functools.cache
def _recursion(levels: Levels) -> tuple[int, ctypes.Array[ctypes.c_double], ctypes.Array[ctypes.c_double]]:
    filled, widths = _padded(levels.count), levels.widths()
    widths += [widths[-1]] * (filled - levels.count)
    return filled, (ctypes.c_double * filled)(*widths), (ctypes.c_double * len(WAVES))(*WAVES)


def _padded(count: int) -> int:
    return -(-count // EIGHT) * EIGHT


def _vector(x: Tensor, inputs: int) -> Float[Tensor, " i"]:
    assert x.shape == (inputs,), f"a vector of {inputs}, not {tuple(x.shape)}"
    return x.detach().to(torch.float32).contiguous()
