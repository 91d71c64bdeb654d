"""The sine matrix in C and in torch against its formula in float64."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.kernels import sine
from bloomery.systems.harmonic.kernels.sine import sine_matrix

needs_library = pytest.mark.skipif(sine.library() is None, reason="no C library: see model.native.refusals")


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def check(outputs: int, rank: int, inputs: int, omega: float, seed: int) -> None:
    left, right, gain = draw(seed, outputs, rank), draw(seed + 1, rank, inputs) / rank**0.5, draw(seed + 2, outputs)
    phase = (left * omega).double() @ right.double()
    found = sine_matrix(left, right, gain, omega)
    assert found.dtype == torch.float32
    # The phase is a float32 sum: its error is a share of its terms' size, and the sine's at most the phase's.
    allowed = 4e-7 * (1 + (left * omega).double().abs() @ right.double().abs()) * gain.double().abs()[:, None] + 1e-12
    assert ((found.double() - gain.double()[:, None] * torch.sin(phase)).abs() <= allowed).all()


@needs_library
@given(
    st.integers(1, 110), st.integers(1, 40), st.integers(1, 150), st.sampled_from([0.5, 3.0, 30.0]), st.integers(0, 99)
)
def test_in_c(outputs: int, rank: int, inputs: int, omega: float, seed: int) -> None:
    check(outputs, rank, inputs, omega, seed)


def test_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    check(33, 7, 65, 3.0, 0)
    assert native.refusals["sine.c"] == "BLOOMERY_NATIVE=0"


@needs_library
def test_the_sine_alone() -> None:
    """Over the whole range that is promised, and at the points where it changes sign."""
    turns = torch.arange(-10_000, 10_001).double() * torch.pi / 2
    for phase in (turns.float(), torch.linspace(-32_000, 32_000, 100_003), torch.linspace(-4, 4, 100_003)):
        one = torch.ones(1, 1)
        found = sine_matrix(phase[:, None], one, torch.ones(len(phase)), 1.0)[:, 0]
        assert (found.double() - phase.double().sin()).abs().max() < 2e-7


@needs_library
def test_what_is_no_number_stays_none() -> None:
    left = torch.tensor([[1.0], [float("nan")], [float("inf")]])
    found = sine_matrix(left, torch.ones(1, 3), torch.ones(3), 1.0)
    assert found.isnan().any(dim=1).tolist() == [False, True, True]
