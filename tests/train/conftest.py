"""A tiny model and batches that are a pure function of the step."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from bloomery.model.config import DenseConfig
from bloomery.model.dense import Transformer

VOCAB = 37


@dataclass(frozen=True)
class Tokens:
    tokens: Tensor
    targets: Tensor
    mask: Tensor | None = None
    segments: Tensor | None = None


@dataclass(frozen=True)
class Counting:
    """Rows that count upwards from a random start, every third target masked if asked for: quickly learned."""

    rows: int = 8
    context: int = 12
    masked: bool = False

    def batch_at(self, step: int) -> Tokens:
        generator = torch.Generator().manual_seed(step)
        start = torch.randint(0, VOCAB, (self.rows, 1), generator=generator)
        row = (start + torch.arange(self.context + 1)) % VOCAB
        mask = torch.rand(self.rows, self.context, generator=generator) > 0.3 if self.masked else None
        return Tokens(row[:, :-1], row[:, 1:], mask)


def tiny(seed: int = 0, dtype: torch.dtype = torch.float32, **changes: object) -> Transformer:
    torch.manual_seed(seed)
    config = DenseConfig(**({"layers": 2, "width": 16, "heads": 2} | changes))
    model = Transformer(config, VOCAB, compute_dtype=dtype)
    return model.double() if dtype == torch.float64 else model


@pytest.fixture
def make_model():
    return tiny


@pytest.fixture
def counting():
    return Counting
