"""Whole models: which tensors are packed, that the rest is untouched, and how many bytes it all takes."""

import math
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bloomery.quant import blocks
from bloomery.quant.pack import FORMATS, pack, unpack

EVERY = pytest.mark.parametrize("name", list(FORMATS))


def some_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = {"gain": (64,), "flat": (3, 20), "matrix": (5, 64), "experts": (2, 3, 32), "empty": (0, 32), "one": ()}
    return {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}


@EVERY
def test_matrices_with_whole_blocks_are_packed_and_the_rest_stays(name: str) -> None:
    form, weights = FORMATS[name], some_weights()
    written, packed = pack(weights, form)
    assert set(packed) == {"matrix", "experts"} | ({"flat"} if form.block == 1 else set())
    back = unpack(written, packed, form)
    assert {key: tensor.shape for key, tensor in back.items()} == {key: one.shape for key, one in weights.items()}
    for key, tensor in back.items():
        assert tensor.dtype == torch.float32
        if key not in packed or name == "float":
            assert torch.equal(tensor, weights[key])
        else:
            assert not torch.equal(tensor, weights[key])
            assert torch.allclose(tensor, weights[key], atol=0.5)
    for key in packed:
        assert written[key].nbytes == weights[key].numel() * form.bits / 8


def test_bits_of_a_packed_weight() -> None:
    assert {name: form.bits for name, form in FORMATS.items()} == {"float": 32, "bf16": 16, "q8_0": 8.5, "q4_0": 4.5}


@EVERY
def test_packing_is_a_function_of_the_values_alone(name: str) -> None:
    """Not of strides, storage, gradients or the number of rows beside it."""
    weights = some_weights()["matrix"]
    strided = torch.empty(64, 5).t().copy_(weights).requires_grad_()
    assert not strided.is_contiguous()
    (one, _), (other, _) = (pack({"w": tensor}, FORMATS[name]) for tensor in (weights, strided))
    (first, _) = pack({"w": weights[:1]}, FORMATS[name])
    assert torch.equal(one["w"], other["w"])
    assert torch.equal(one["w"][:1], first["w"])
    assert not other["w"].requires_grad


def test_rows_are_blocks_side_by_side() -> None:
    weights = some_weights()["experts"].repeat(1, 1, 2)
    written = pack({"w": weights}, FORMATS["q4_0"])[0]["w"]
    assert written.shape == (2, 3, 2 * 18)
    assert torch.equal(written[1, 2, 18:], blocks.pack_q4_0(weights[1, 2, 32:].unsqueeze(0))[0])


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_bf16_is_the_upper_half_of_the_bits_rounded_to_even(value: float) -> None:
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    lower, upper = bits & 0xFFFF, bits >> 16
    upper += lower > 0x8000 or (lower == 0x8000 and upper % 2 == 1)
    written, packed = pack({"w": torch.tensor([[value]])}, FORMATS["bf16"])
    assert written["w"].view(torch.int16).item() & 0xFFFF == upper
    expected = np.array([upper << 16], dtype=np.uint32).view(np.float32)[0]
    assert unpack(written, packed, FORMATS["bf16"])["w"].item() == expected


@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
def test_what_cannot_be_packed_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"^deep.w cannot be written in q"):
        pack({"deep.w": torch.full((1, 32), math.inf)}, FORMATS[name])
    with pytest.raises(ValueError, match=r"^deep.w is torch.float16"):
        pack({"deep.w": torch.zeros(1, 32).half()}, FORMATS[name])


@EVERY
def test_what_no_packing_wrote_is_refused(name: str) -> None:
    form = FORMATS[name]
    for wrong in (torch.zeros(3, 18, dtype=torch.int64), torch.zeros(18, dtype=form.dtype)):
        with pytest.raises(ValueError, match="not written by"):
            unpack({"w": wrong}, ["w"], form)
    with pytest.raises(ValueError, match="missing"):
        unpack({}, ["w"], form)
