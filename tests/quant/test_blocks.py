"""The block formats against a scalar loop after the definition, the bytes that gguf-py gives, and their bounds."""

import math
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from bloomery.quant import blocks

single = np.float32
REACH = 60_000.0 * 8
"""Where half precision still has a scale for q4_0."""


def half(value: float) -> bytes:
    return struct.pack("<e", value)


def single_of_half(content: bytes) -> np.float32:
    return single(struct.unpack("<e", content)[0])


def inverse_of(scale: np.float32) -> np.float32:
    with np.errstate(over="ignore", divide="ignore"):
        inverse = single(1) / scale
    return inverse if np.isfinite(inverse) else single(0)


def slow_q8_0(block: list[np.float32]) -> bytes:
    scale = max(abs(value) for value in block) / single(127)
    content = half(float(scale))
    for value in block:
        step = float(value * inverse_of(scale))
        whole = math.floor(abs(step) + 0.5)  # away from zero; in double, so that the sum is exact
        content += struct.pack("b", whole if step > 0 else -whole)
    return content


def slow_q4_0(block: list[np.float32]) -> bytes:
    largest = single(0)
    for value in block:
        if abs(value) > abs(largest):
            largest = value
    scale = largest / single(-8)
    steps = []
    for value in block:
        step = single(float(value) * float(inverse_of(scale)) + 8.5)
        steps.append(min(15, int(step)))
    return half(float(scale)) + bytes(steps[i] | steps[i + 16] << 4 for i in range(16))


def slow_unpacked_q8_0(content: bytes) -> list[np.float32]:
    scale = single_of_half(content[:2])
    return [scale * single(value) for value in struct.unpack("32b", content[2:])]


def slow_unpacked_q4_0(content: bytes) -> list[np.float32]:
    scale = single_of_half(content[:2])
    return [scale * single((byte & 15) - 8) for byte in content[2:]] + [
        scale * single((byte >> 4) - 8) for byte in content[2:]
    ]


Slow = Callable[[list[np.float32]], bytes]
BOTH = pytest.mark.parametrize(
    ("pack", "unpack", "slow", "slow_unpacked"),
    [
        (blocks.pack_q8_0, blocks.unpack_q8_0, slow_q8_0, slow_unpacked_q8_0),
        (blocks.pack_q4_0, blocks.unpack_q4_0, slow_q4_0, slow_unpacked_q4_0),
    ],
    ids=["q8_0", "q4_0"],
)

anything = st.floats(-REACH, REACH, width=32)
weights = st.integers(-40, 40).map(lambda exponent: exponent / 8)
"""Many ties: of rounding, and for the largest magnitude."""
some_blocks = st.one_of(
    *(arrays.arrays(np.float32, st.tuples(st.integers(1, 4), st.just(32)), elements=one) for one in (anything, weights))
)


def rows(tensor: Tensor) -> list[bytes]:
    return [row.numpy().tobytes() for row in tensor]


@BOTH
@given(values=some_blocks)
@example(values=np.full((1, 32), -0.0, dtype=np.float32))
def test_every_bit_is_that_of_the_scalar_loop(
    pack: Callable[[Tensor], Tensor],
    unpack: Callable[[Tensor], Tensor],
    slow: Slow,
    slow_unpacked: Callable[[bytes], list[np.float32]],
    values: np.ndarray,
) -> None:
    packed = pack(torch.from_numpy(values))
    assert rows(packed) == [slow(list(row)) for row in values]
    expected = [np.array(slow_unpacked(row), dtype=np.float32).tobytes() for row in rows(packed)]
    assert rows(unpack(packed)) == expected


def test_the_bytes_of_gguf_py() -> None:
    """As gguf 0.19.0 quantises them; nothing of ours was asked."""
    values = torch.tensor([[((7 * i * i + 3 * i) % 41 - 20) / 8 for i in range(32)]])
    q8_0 = "0a2581c0594687261966060053fafa530006661926874659c0819a0dd4f36c395fda"
    assert rows(blocks.pack_q8_0(values)) == [bytes.fromhex(q8_0)]
    assert rows(blocks.pack_q4_0(values)) == [bytes.fromhex("0035e0a4ae0cc0ea4a0e28985d78f8cde868")]


def scales(packed: Tensor) -> np.ndarray:
    return np.array([[single_of_half(row[:2])] for row in rows(packed)], dtype=np.float64)


@given(values=some_blocks)
def test_q8_0_is_off_by_half_a_step_and_the_rounding_of_its_scale(values: np.ndarray) -> None:
    packed = blocks.pack_q8_0(torch.from_numpy(values))
    x, found = values.astype(np.float64), blocks.unpack_q8_0(packed).numpy().astype(np.float64)
    scale = np.abs(x).max(axis=1, keepdims=True) / 127
    slack = 127 * np.abs(scale - scales(packed)) + np.abs(x) * 2**-21
    assert (np.abs(x - found) <= scale / 2 + slack).all()


@given(values=some_blocks)
def test_q4_0_is_off_by_half_a_step_and_by_a_step_near_minus_the_largest(values: np.ndarray) -> None:
    packed = blocks.pack_q4_0(torch.from_numpy(values))
    x, found = values.astype(np.float64), blocks.unpack_q4_0(packed).numpy().astype(np.float64)
    scale = np.take_along_axis(x, np.abs(x).argmax(axis=1, keepdims=True), axis=1) / -8
    step = np.abs(scale)
    slack = 8 * np.abs(scale - scales(packed)) + np.abs(x) * 2**-20
    beyond = x * np.sign(scale) > 7.5 * step
    assert (np.abs(x - found) <= np.where(beyond, step, step / 2) + slack).all()


@BOTH
@given(values=some_blocks)
def test_packing_what_was_unpacked_changes_no_value_by_more_than_the_scale_s_rounding(
    pack: Callable[[Tensor], Tensor], unpack: Callable[[Tensor], Tensor], slow: Slow, slow_unpacked: object,
    values: np.ndarray,
) -> None:  # fmt: skip
    once = unpack(pack(torch.from_numpy(values)))
    twice = unpack(pack(once))
    largest = once.abs().amax(dim=1, keepdim=True)
    assert ((once - twice).abs() <= largest * 2**-10 + 2**-24 * 128).all()


@BOTH
def test_what_has_no_scale_in_half_precision_is_refused(
    pack: Callable[[Tensor], Tensor], unpack: object, slow: Slow, slow_unpacked: object
) -> None:
    for value in (math.inf, -math.inf, math.nan, 65520.0 * 127):
        block = torch.zeros(2, 32)
        block[1, 5] = value
        with pytest.raises(ValueError, match="half precision"):
            pack(block)


@BOTH
def test_what_is_too_small_for_half_precision_becomes_zero(
    pack: Callable[[Tensor], Tensor], unpack: Callable[[Tensor], Tensor], slow: Slow, slow_unpacked: object
) -> None:
    small = torch.full((3, 32), 1e-8) * torch.tensor([[1.0], [1e-32], [0.0]])
    assert (unpack(pack(small)) == 0).all()
