"""Decoding with rows of atoms, in C and in torch, against the rows themselves in float64."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.kernels import rows
from bloomery.systems.harmonic.kernels.rows import WAVES, Atoms, ScaleSpaceDecode, TapsDecode, table
from bloomery.systems.harmonic.kernels.scale_space import Levels, blurred, scale_space_rows

needs_library = pytest.mark.skipif(rows.library() is None, reason="no C library: see model.native.refusals")


@pytest.fixture(params=["C", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    elif rows.library() is None:
        pytest.skip("no C library: " + native.refusals["rows.c"])
    return request.param


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def uniform(seed: int, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def relative(found: Tensor, wanted: Tensor) -> float:
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    return float((found.double() - wanted).norm() / wanted.norm())


def written_out(atoms: Atoms, size: int) -> Tensor:
    """[o n]: every atom's four rounded weights at their places in a row as long as the table."""
    whole = torch.zeros(len(atoms.where), size, dtype=torch.float64)
    for offset, weight in zip((0, 1, atoms.step, atoms.step + 1), atoms.weights.double().unbind(-1), strict=True):
        whole.scatter_add_(1, atoms.where + offset, weight)
    return whole


@needs_library
@given(st.integers(1, 20), st.integers(1, 23), st.integers(2, 24), st.integers(0, 99))
def test_four_weights_at_their_places(outputs: int, count: int, step: int, seed: int) -> None:
    """The C sum and torch's, for any number of atoms and any step."""
    size = 3 * step + 40
    where = torch.randint(0, size - step - 1, (outputs, count), generator=torch.Generator().manual_seed(seed))
    atoms = Atoms.pack(where, draw(seed, outputs, count, 4), step, size)
    assert atoms.packed is not None
    numbers = draw(seed + 1, size)
    wanted = written_out(atoms, size) @ numbers.double()
    tolerance = 1e-6 * math.sqrt(count) * float(atoms.weights.float().norm() * numbers.norm())
    for each in (atoms, Atoms(atoms.where, atoms.weights, atoms.step, None)):
        torch.testing.assert_close(each.of(numbers).double(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("inputs", "outputs", "count"), [(4, 3, 1), (64, 33, 6), (700, 50, 41)])
def test_taps_are_narrow_gaussians(path: str, inputs: int, outputs: int, count: int) -> None:
    """Rounded weights cost 2^-9 each, and what four taps leave out at most exp(-2 / s^2) of the height."""
    amplitude, centre = draw(0, outputs, count), uniform(1, 1, inputs - 2, outputs, count)
    x = draw(3, inputs)
    for width, most in ((0.4, 0.006), (0.7, 0.025)):
        decode = TapsDecode.pack(inputs, amplitude, centre, torch.full_like(centre, width))
        assert (decode.atoms.packed is not None) == (path == "C")
        away = (torch.arange(inputs) - centre.double()[..., None]) / width
        whole = torch.einsum("ok,oki->oi", amplitude.double(), torch.exp(-0.5 * away**2))
        assert relative(decode(x), whole @ x.double()) < most


def test_taps_at_the_ends(path: str) -> None:
    centre = torch.tensor([[0.0], [0.3], [6.9], [7.0]])
    decode = TapsDecode.pack(8, torch.ones(4, 1), centre, torch.full((4, 1), 0.4))
    found = torch.stack([decode(one) for one in torch.eye(8)], dim=1)  # the rows
    wanted = torch.exp(-0.5 * ((torch.arange(8) - centre) / 0.4) ** 2)
    torch.testing.assert_close(found, wanted, rtol=0, atol=4e-3)


@needs_library
def test_the_recursion_is_its_kernel_and_that_nearly_a_gaussian() -> None:
    """An impulse anywhere, both ends included, comes out as Deriche's damped waves."""
    levels = Levels(0.7, 2.0, 11)
    for inputs, at in ((1, 0), (2, 1), (300, 0), (300, 137), (300, 299)):
        impulse = torch.zeros(inputs)
        impulse[at] = 1.0
        found = table(impulse, levels).view(inputs, -1)
        assert found.shape[1] == 16
        distance = (torch.arange(inputs, dtype=torch.float64) - at).abs()
        for level, width in enumerate(levels.widths()):
            u, height = distance / width, 1 / (width * math.sqrt(2 * math.pi))
            waves = sum(
                (a * torch.cos(w * u) + b * torch.sin(w * u)) * torch.exp(-d * u)
                for a, b, d, w in (WAVES[:4], WAVES[4:])
            )
            torch.testing.assert_close(found[:, level].double(), waves * height, rtol=0, atol=2e-5 * height)
            assert (waves - torch.exp(-0.5 * u**2)).abs().max() < 6e-4


@needs_library
@given(st.integers(1, 200), st.integers(2, 12), st.integers(0, 99))
def test_tables_in_c_and_in_torch(inputs: int, count: int, seed: int) -> None:
    levels = Levels(0.5, 1.9, count)
    x = draw(seed, inputs)
    wanted = blurred(x.double(), levels)
    assert relative(table(x, levels).view(inputs, -1)[:, :count], wanted) < 1e-3


@pytest.mark.parametrize(("inputs", "count", "steps"), [(2, 1, 2), (60, 5, 8), (500, 41, 9)])
def test_scale_space_decoding_is_the_layer(path: str, inputs: int, count: int, steps: int) -> None:
    levels = Levels(0.7, 2.0, steps)
    amplitude, centre = draw(0, 40, count), uniform(1, -1, inputs, 40, count)
    width = levels.smallest * levels.ratio ** uniform(2, -0.5, steps - 0.5, 40, count)
    decode = ScaleSpaceDecode.pack(inputs, amplitude, centre, width, levels)
    assert (decode.atoms.packed is not None) == (path == "C")
    x = draw(3, inputs)
    wanted = scale_space_rows(x.double()[None], amplitude.double(), centre.double(), width.double(), levels)[0]
    assert relative(decode(x), wanted) < 6e-3  # bfloat16 weights
    rounded = written_out(decode.atoms, inputs * decode.atoms.step)
    exact = torch.nn.functional.pad(blurred(x.double(), levels), (0, decode.atoms.step - steps)).flatten()
    assert relative(decode(x), rounded @ exact) < (1e-3 if path == "C" else 1e-5)


def test_one_table_serves_several_matrices(path: str) -> None:
    levels, inputs = Levels(0.7, 2.0, 8), 64
    x = draw(9, inputs)
    shared = table(x, levels)
    for seed in range(3):
        width = levels.smallest * levels.ratio ** uniform(seed, 0, 7, 5, 3)
        decode = ScaleSpaceDecode.pack(inputs, draw(seed, 5, 3), uniform(seed, 0, 63, 5, 3), width, levels)
        assert torch.equal(decode.atoms.of(shared), decode(x))


def test_tables_beyond_sixteen_bits_are_left_to_torch() -> None:
    levels, inputs = Levels(0.7, 2.0, 8), 8193
    amplitude, centre, width = draw(0, 2, 3), uniform(1, 8000, 8192, 2, 3), uniform(2, 0.7, 80, 2, 3)
    decode = ScaleSpaceDecode.pack(inputs, amplitude, centre, width, levels)
    assert decode.atoms.packed is None
    x = draw(3, inputs)
    wanted = scale_space_rows(x.double()[None], amplitude.double(), centre.double(), width.double(), levels)[0]
    assert relative(decode(x), wanted) < 6e-3
