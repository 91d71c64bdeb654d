"""The scale-space form: its table against the sum that it stands for, its gradients against autograd on an explicit
interpolation, and both against a wave, whose blur and derivatives are known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bloomery.systems.harmonic.bases import make
from bloomery.systems.harmonic.bases.row_scale_space import RowScaleSpaceLinear
from bloomery.systems.harmonic.kernels.rows import ScaleSpaceDecode
from bloomery.systems.harmonic.kernels.scale_space import Levels, blurred, look_up, scale_space_rows

LEVELS = Levels(smallest=0.7, ratio=2.0, count=5)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(seed: int, low: float, high: float, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_table(x: Tensor, levels: Levels) -> Tensor:
    """[t i l], every position's sum written out."""
    inputs = x.shape[-1]
    place = torch.arange(inputs, dtype=x.dtype)
    away = place[:, None] - place[None]
    columns = []
    for width in levels.widths():
        gaussian = torch.exp(-0.5 * (away / width) ** 2) / (width * math.sqrt(2 * math.pi))
        columns.append(x @ gaussian.t())
    return torch.stack(columns, dim=-1)


def slow_rows(table: Tensor, amplitude: Tensor, centre: Tensor, level: Tensor) -> Tensor:
    """[t o] by hat functions over the whole table: each atom is a sum over all its numbers, most of them times zero.

    Autograd sees plain products, and knows nothing of neighbours.
    """
    positions, levels = table.shape[1:]
    hat_i = (1 - (centre.clamp(0, positions - 1)[..., None] - torch.arange(positions)).abs()).clamp(min=0)
    hat_j = (1 - (level.clamp(0, levels - 1)[..., None] - torch.arange(levels)).abs()).clamp(min=0)
    return torch.einsum("til,ok,oki,okl->to", table, amplitude, hat_i, hat_j)


def atoms(seed: int, outputs: int, count: int, inputs: int, levels: Levels) -> tuple[Tensor, Tensor, Tensor]:
    """Amplitude, centre, width; some of them beyond the edges."""
    centre = uniform(seed + 1, -1.5, inputs + 0.5, outputs, count)
    level = uniform(seed + 2, -0.5, levels.count - 0.5, outputs, count)
    return draw(seed, outputs, count), centre, levels.smallest * levels.ratio**level


@pytest.mark.parametrize("inputs", [1, 2, 17, 64])
def test_the_table_is_the_written_out_sum(inputs: int) -> None:
    x = draw(0, 3, inputs)
    torch.testing.assert_close(blurred(x, LEVELS), slow_table(x, LEVELS), rtol=0, atol=1e-12)


@given(st.integers(2, 40), st.integers(1, 4), st.integers(1, 5), st.integers(2, 6), st.integers(0, 99))
def test_value_and_gradients(inputs: int, outputs: int, count: int, steps: int, seed: int) -> None:
    levels = Levels(0.6, 1.7, steps)
    amplitude, centre, width = atoms(seed, outputs, count, inputs, levels)
    x, upstream = draw(seed + 7, 2, inputs), draw(seed + 8, 2, outputs)

    def run(rows: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        leaves = [value.clone().requires_grad_() for value in (x, amplitude, centre, width)]
        if rows:
            found = scale_space_rows(*leaves, levels)
        else:
            found = slow_rows(slow_table(leaves[0], levels), leaves[1], leaves[2], levels.level_of(leaves[3]))
        return found.detach(), torch.autograd.grad((found * upstream).sum(), leaves)

    found, gradients = run(True)
    wanted, slow_gradients = run(False)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    for mine, theirs in zip(gradients, slow_gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def test_gradcheck_within_a_cell() -> None:
    """Finite differences, where no step crosses a neighbour."""
    amplitude = draw(0, 3, 2)
    centre = torch.tensor([[2.3, 7.6], [0.4, 8.5], [4.7, 3.3]], dtype=torch.float64)
    level = torch.tensor([[0.4, 2.6], [1.5, 3.3], [2.2, 0.7]], dtype=torch.float64)
    leaves = [value.requires_grad_() for value in (draw(1, 2, 10, LEVELS.count), amplitude, centre, level)]
    assert torch.autograd.gradcheck(look_up, leaves)


def test_slopes_are_those_of_the_heat_equation() -> None:
    """x_i = cos(w i) blurred by s is exp(-w^2 s^2 / 2) cos(w c): dX/dc = X', dX/dlog s = s^2 X''. The slopes between
    neighbours come as near as the neighbours are."""
    frequency, inputs = 0.11, 600
    x = torch.cos(frequency * torch.arange(inputs, dtype=torch.float64))[None]
    centre, width = uniform(0, 250, 350, 20, 1), uniform(1, 3.0, 20.0, 20, 1)
    levels = Levels(2.0, 1.02, 150)
    height = torch.exp(-0.5 * (frequency * width) ** 2)
    first = -frequency * height * torch.sin(frequency * centre)
    second = -(frequency**2) * height * torch.cos(frequency * centre)
    c, log_s = centre.clone().requires_grad_(), width.log().requires_grad_()
    found = scale_space_rows(x, torch.ones(20, 1, dtype=torch.float64), c, log_s.exp(), levels)
    torch.testing.assert_close(found[0, :, None].detach(), height * torch.cos(frequency * centre), rtol=0, atol=2e-3)
    into_centre, into_log_width = torch.autograd.grad(found.sum(), (c, log_s))
    torch.testing.assert_close(into_centre, first, rtol=0, atol=0.06 * frequency)
    torch.testing.assert_close(into_log_width, width**2 * second, rtol=0, atol=0.02)


def test_what_interpolation_costs() -> None:
    """Against rows of true Gaussians of unit norm: the figures of the module's docstring."""
    inputs, outputs, count = 512, 64, 8
    centre = uniform(1, 0, inputs - 1, outputs, count)
    width = 0.7 * 2.0 ** uniform(2, 0, 7, outputs, count)
    amplitude = draw(0, outputs, count) * width.sqrt()
    away = (torch.arange(inputs) - centre[..., None]) / width[..., None]
    rows = torch.einsum("ok,oki->oi", amplitude / (width * math.sqrt(2 * math.pi)), torch.exp(-0.5 * away**2))
    x = draw(3, 16, inputs)
    true = x @ rows.t()

    def error(levels: Levels) -> float:
        return float((scale_space_rows(x, amplitude, centre, width, levels) - true).norm() / true.norm())

    assert error(Levels(0.7, 2.0, 8)) == pytest.approx(0.06, abs=0.01)
    assert error(Levels(0.7, math.sqrt(2.0), 15)) == pytest.approx(0.03, abs=0.01)


def test_a_layer_decodes_by_look_ups_and_is_packed_again_when_a_factor_changes() -> None:
    torch.manual_seed(0)
    module = make("row_scale_space", 96, 64, 4, compute_dtype=torch.bfloat16)
    module.initialise()
    assert isinstance(module, RowScaleSpaceLinear)
    x = torch.randn(2, 96).bfloat16()
    for _ in range(2):
        with torch.no_grad():
            both = module(x).float()
            assert module._kernel is None
            each = torch.stack([module(one) for one in x]).float()
            assert isinstance(module._kernel, ScaleSpaceDecode)
            assert (each - both).norm() < 0.01 * both.norm()
            module.get_parameter("centre").add_(3.0)
            module.get_parameter("log_width").add_(1.0)
        assert not torch.equal(module(x[0]).float(), each[0])
        assert module._kernel is None, "a pass with gradients lets go of it"
