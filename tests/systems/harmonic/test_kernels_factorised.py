"""Two-stage decoding against the whole matrix in float64, with the C library and without."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.bases import make
from bloomery.systems.harmonic.bases.lowrank import LowRankLinear
from bloomery.systems.harmonic.kernels import factorised
from bloomery.systems.harmonic.kernels.factorised import LowRankDecode, MonarchDecode
from bloomery.systems.harmonic.layers import HarmonicLinear

needs_library = pytest.mark.skipif(factorised.library() is None, reason="no C library: see model.native.refusals")


@pytest.fixture(params=["C", "torch"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setenv("BLOOMERY_NATIVE", "0")
    elif factorised.library() is None:
        pytest.skip("no C library: " + native.refusals["factorised.c"])
    return request.param


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def rounded(factor: Tensor) -> Tensor:
    return factor.to(torch.bfloat16).double()


def monarch_matrix(in_blocks: Tensor, out_blocks: Tensor) -> Tensor:
    """[o i], entry by entry: feature f of input block q is place f b + q of what the output blocks read."""
    blocks, width, inputs = in_blocks.shape
    outputs = out_blocks.shape[1]
    whole = torch.zeros(blocks * outputs, blocks * inputs, dtype=torch.float64)
    for p in range(blocks):
        for j in range(width):
            f, q = divmod(p * width + j, blocks)
            rows, columns = slice(p * outputs, (p + 1) * outputs), slice(q * inputs, (q + 1) * inputs)
            whole[rows, columns] += torch.outer(rounded(out_blocks)[p, :, j], rounded(in_blocks)[q, f])
    return whole


def close(found: Tensor, wanted: Tensor, terms: Tensor | None = None) -> None:
    """Float32 sums: their error is relative to the norm of all of them, or, where few of them may cancel, to the sum of
    the absolute terms of each (Higham 2002, section 4.2)."""
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert (found.double() - wanted).abs().max() <= 2e-6 * (wanted if terms is None else terms).norm() + 1e-12


@pytest.mark.parametrize(("inputs", "rank", "outputs"), [(1, 1, 1), (64, 62, 32), (7, 33, 65), (300, 97, 129)])
def test_low_rank_is_its_matrix(path: str, inputs: int, rank: int, outputs: int) -> None:
    left, right, x = draw(0, outputs, rank), draw(1, rank, inputs), draw(2, inputs)
    decode = LowRankDecode.pack(left, right)
    assert (decode.packed is not None) == (path == "C")
    close(decode(x), rounded(left) @ rounded(right) @ x.double())


@pytest.mark.parametrize(
    ("blocks", "inputs", "width", "outputs"), [(1, 3, 2, 5), (4, 8, 3, 16), (16, 16, 16, 33), (3, 40, 70, 8)]
)
def test_monarch_is_its_matrix(path: str, blocks: int, inputs: int, width: int, outputs: int) -> None:
    first, second = draw(0, blocks, width, inputs), draw(1, blocks, outputs, width)
    x = draw(2, blocks * inputs)
    decode = MonarchDecode.pack(first, second)
    assert (decode.packed is not None) == (path == "C")
    close(decode(x), monarch_matrix(first, second) @ x.double())


@needs_library
@given(st.integers(1, 90), st.integers(1, 70), st.integers(1, 140), st.integers(0, 99))
def test_any_low_rank_shape(inputs: int, rank: int, outputs: int, seed: int) -> None:
    left, right, x = draw(seed, outputs, rank), draw(seed + 1, rank, inputs), draw(seed + 2, inputs)
    terms = rounded(left).abs() @ (rounded(right).abs() @ x.double().abs())
    close(LowRankDecode.pack(left, right)(x), rounded(left) @ rounded(right) @ x.double(), terms)


@needs_library
@given(st.integers(1, 8), st.integers(1, 40), st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
def test_any_monarch_shape(blocks: int, inputs: int, width: int, outputs: int, seed: int) -> None:
    first, second = draw(seed, blocks, width, inputs), draw(seed + 1, blocks, outputs, width)
    x = draw(seed + 2, blocks * inputs)
    terms = monarch_matrix(first.abs(), second.abs()) @ x.double().abs()
    close(MonarchDecode.pack(first, second)(x), monarch_matrix(first, second) @ x.double(), terms)


def test_inputs_of_other_types_and_strides(path: str) -> None:
    left, right, x = draw(0, 40, 8), draw(1, 8, 50), draw(2, 100)[::2]
    decode = LowRankDecode.pack(left.double(), right.double())
    half = x.to(torch.bfloat16)
    close(decode(half), rounded(left) @ rounded(right) @ half.double())
    close(decode(x.double()), rounded(left) @ rounded(right) @ x.double())


def test_padding_lets_nothing_through(path: str) -> None:
    """An infinite input makes its own outputs infinite and no others."""
    left = torch.eye(40)
    right = torch.eye(40, 50)
    x = torch.zeros(50)
    x[45] = float("inf")  # read by no row of the right factor but as 0 * inf
    assert LowRankDecode.pack(left, right)(x).isnan().all()
    x[45] = 3e38
    assert LowRankDecode.pack(left, right)(x).eq(0).all()


@pytest.fixture(params=["lowrank", "monarch"])
def layer(request: pytest.FixtureRequest) -> HarmonicLinear:
    made = make(request.param, 96, 160, 5.0, blocks=8, compute_dtype=torch.bfloat16)
    made.initialise(torch.Generator().manual_seed(0))
    return made


def test_a_layer_decodes_its_own_matrix(path: str, layer: HarmonicLinear) -> None:
    """The kernel's inner sums are not rounded, so that it is nearer to the matrix of rounded factors than torch is."""
    x = draw(1, 1, 1, 96)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(rounded(parameter))
        exact = make("lowrank" if isinstance(layer, LowRankLinear) else "monarch", 96, 160, 5.0, blocks=8)
        exact.load_state_dict(layer.state_dict())
        wanted = exact(x.to(torch.bfloat16).float())
        found = layer(x)
        errors = [(each.float() - wanted).norm() / wanted.norm() for each in (found, layer(x.expand(2, 1, 96))[:1])]
    assert found.shape == (1, 1, 160)
    assert found.dtype == torch.bfloat16
    assert errors[0] < 2.5e-3  # of the output's rounding alone: 2^-9 at most
    assert errors[1] < 8e-3


@needs_library
def test_a_layer_decodes_alike_with_a_compiler_and_without(
    layer: HarmonicLinear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to the order of float32 sums, which seldom decides the last bit of a bfloat16."""
    x = draw(1, 64, 96).to(torch.bfloat16)
    with torch.no_grad():
        compiled = torch.stack([layer(one[None]) for one in x])
        monkeypatch.setenv("BLOOMERY_NATIVE", "0")
        again = copy.deepcopy(layer)
        again.load_state_dict(layer.state_dict())  # packed anew
        alone = torch.stack([again(one[None]) for one in x])
    assert (alone != compiled).double().mean() < 0.01
    torch.testing.assert_close(alone, compiled, rtol=2**-7, atol=1e-4)


def test_a_layer_packs_anew_what_was_written_to(path: str, layer: HarmonicLinear) -> None:
    x = draw(1, 96)
    with torch.no_grad():
        first = layer(x)
        assert torch.equal(layer(x), first)
        for parameter in layer.parameters():
            parameter.mul_(2.0)
        assert torch.equal(layer(x), 4 * first)
        layer.load_state_dict({name: value / 2 for name, value in layer.state_dict().items()})
        assert torch.equal(layer(x), first)
        twin = copy.deepcopy(layer)
        next(iter(twin.parameters())).zero_()
        assert twin(x).eq(0).all()
        assert torch.equal(layer(x), first)


def test_the_kernel_is_for_one_vector_without_gradients_only(layer: HarmonicLinear, monkeypatch: Any) -> None:
    def refused() -> None:
        raise AssertionError("packed")

    monkeypatch.setattr(layer, "pack", refused)
    assert layer(draw(1, 96)).requires_grad
    with torch.no_grad():
        layer(draw(1, 2, 96))
        layer.compute_dtype = torch.float32  # the kernel's weights are bfloat16
        layer(draw(1, 96))
        layer.compute_dtype = torch.bfloat16
        with pytest.raises(AssertionError, match="packed"):
            layer(draw(1, 96))
