"""Formats of whole models: which tensors are packed, into what, and how they come back.

A tensor is packed if it has at least two dimensions and rows (its last dimension) of whole blocks. Norms, gains and
rows that do not fit stay float32, as in GGUF files, and count with all their bytes. Packing is a pure function of the
values; unpacking gives float32. It refuses tensors that are not float32, and values that a format has no bytes for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bloomery.quant import blocks


@dataclass(frozen=True, slots=True)
class Format:
    """How the rows of a tensor are written, block by block. All dimensions but the last are kept."""

    name: str
    summary: str
    block: int
    """Values in a block."""
    block_bytes: int
    dtype: torch.dtype
    """Of what is written."""
    pack_blocks: Callable[[Tensor], Tensor]
    """[n, block] float32 -> [n, as many `dtype` as fill block_bytes]"""
    unpack_blocks: Callable[[Tensor], Tensor]

    @property
    def bits(self) -> float:
        """Of each packed weight, scales included."""
        return 8 * self.block_bytes / self.block

    @property
    def written(self) -> int:
        """Numbers of `dtype` that a block becomes."""
        return self.block_bytes // self.dtype.itemsize

    def fits(self, tensor: Tensor) -> bool:
        return tensor.dim() >= 2 and tensor.numel() > 0 and tensor.shape[-1] % self.block == 0

    def encode(self, tensor: Tensor) -> Tensor:
        """float32 to `dtype`. Raises ValueError where the format has no bytes for a value."""
        rows = self.pack_blocks(tensor.reshape(-1, self.block))
        return rows.reshape(*tensor.shape[:-1], tensor.shape[-1] // self.block * self.written)

    def decode(self, tensor: Tensor) -> Tensor:
        """`dtype` to float32. Raises ValueError where the tensor is not what `encode` writes."""
        if tensor.dtype != self.dtype or tensor.dim() < 2 or tensor.shape[-1] % self.written:
            raise ValueError(f"{tensor.dtype} of shape {list(tensor.shape)} is not written by {self.name}")
        rows = self.unpack_blocks(tensor.reshape(-1, self.written))
        return rows.reshape(*tensor.shape[:-1], tensor.shape[-1] // self.written * self.block)


def pack(weights: Mapping[str, Tensor], form: Format) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """({name: tensor as written}, the names that were packed).

    Raises ValueError, with the tensor's name, where one is not float32 or the format has no bytes for its values.
    """
    written: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}, not float32")
        try:
            written[name] = (form.encode(tensor.detach()) if form.fits(tensor) else tensor.detach()).contiguous()
        except ValueError as error:
            raise ValueError(f"{name} cannot be written in {form.name}: {error}") from None
    return written, tuple(sorted(name for name, tensor in weights.items() if form.fits(tensor)))


def unpack(written: Mapping[str, Tensor], packed: Collection[str], form: Format) -> dict[str, Tensor]:
    """{name: float32 tensor}. Raises ValueError where a packed tensor is missing or not what the format writes."""
    if absent := sorted(set(packed) - set(written)):
        raise ValueError(f"{absent[0]} is missing")
    return {name: form.decode(tensor) if name in packed else tensor for name, tensor in written.items()}


FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (
        Format("float", "float32, as trained", 1, 4, torch.float32, Tensor.clone, Tensor.clone),
        Format("bf16", "bfloat16, rounded to even", 1, 2, torch.bfloat16, Tensor.bfloat16, Tensor.float),
        Format(
            "q8_0", "32 signed bytes and one half-precision scale", blocks.BLOCK, blocks.Q8_0_BYTES, torch.uint8,
            blocks.pack_q8_0, blocks.unpack_q8_0,
        ),
        Format(
            "q4_0", "32 half bytes and one half-precision scale", blocks.BLOCK, blocks.Q4_0_BYTES, torch.uint8,
            blocks.pack_q4_0, blocks.unpack_q4_0,
        ),
    )
}  # fmt: skip
