"""Two-stage decoding against the whole matrix in float64, with the C library and without."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bloomery.model import native
from bloomery.systems.harmonic.kernels import factorised
from bloomery.systems.harmonic.kernels.factorised import LowRankDecode, MonarchDecode

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


def close(found: Tensor, wanted: Tensor) -> None:
    """Float32 sums: the error of a sum is relative to the norm of all of them, not to each."""
    assert found.dtype == torch.float32
    assert found.shape == wanted.shape
    assert (found.double() - wanted).abs().max() <= 2e-6 * wanted.norm() + 1e-12


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
    close(LowRankDecode.pack(left, right)(x), rounded(left) @ rounded(right) @ x.double())


@needs_library
@given(st.integers(1, 8), st.integers(1, 40), st.integers(1, 70), st.integers(1, 70), st.integers(0, 99))
def test_any_monarch_shape(blocks: int, inputs: int, width: int, outputs: int, seed: int) -> None:
    first, second = draw(seed, blocks, width, inputs), draw(seed + 1, blocks, outputs, width)
    x = draw(seed + 2, blocks * inputs)
    close(MonarchDecode.pack(first, second)(x), monarch_matrix(first, second) @ x.double())


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


def test_the_bases_mean_the_same_by_it(path: str) -> None:
    pytest.importorskip("bloomery.systems.harmonic.bases")
    from bloomery.systems.harmonic.bases import make

    for basis, kind, names in (
        ("lowrank", LowRankDecode, ("out_factor", "in_factor")),
        ("monarch", MonarchDecode, ("in_blocks", "out_blocks")),
    ):
        layer = make(basis, 96, 160, 5.0, blocks=8)
        layer.initialise(torch.Generator().manual_seed(0))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(parameter.to(torch.bfloat16))  # so that packing rounds nothing
            x = draw(1, 96)
            found = kind.pack(*(layer.get_parameter(name) for name in names))(x)
            torch.testing.assert_close(found, layer(x), rtol=1e-4, atol=1e-5)
