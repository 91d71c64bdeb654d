"""Who may have how much of a theory's memory: shares of its byte budget, and the least that it can keep to. No torch.

    fixed     token matrices (4 bytes a number) and counts (4), the superposition, and room for all episodes that wait
    least     fixed / (1 - PROTOTYPES - FORMS - SATELLITES)

Prototypes, the forms that REM counts, and satellites (prod) have a share each and grow no further; episodes in cells,
or the dictionary, have what is left and are forgotten for it. So a budget of `least` and more is kept after every read
and every sleep. What a memory measures itself by (its newest contexts, shares that weights are found on) is of a fixed
size and not in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

PROTOTYPES, FORMS, SATELLITES = 1 / 4, 1 / 16, 1 / 4
REAL = 8
"""Bytes of a number of a multivector that is no token's."""


def numbers_of(variant: str) -> int:
    """Of a multivector: the even ones of v4, the rotations of prod."""
    return 16 if variant == "prod" else 8


def episode_bytes(numbers: int) -> int:
    """Of one that waits: context, signature, target, position."""
    return 2 * REAL * numbers + 16


def fixed_bytes(variant: str, vocab: int, buffer: int) -> int:
    numbers = numbers_of(variant)
    return 4 * vocab * (numbers + 1) + REAL * numbers + buffer * episode_bytes(numbers)


def least_bytes(variant: str, vocab: int, buffer: int) -> int:
    """Of exact_context: its counts of tokens."""
    if variant == "exact_context":
        return 4 * vocab
    left = 1 - PROTOTYPES - FORMS - (SATELLITES if variant == "prod" else 0)
    return math.ceil(fixed_bytes(variant, vocab, buffer) / left)


def vocab_of(data: Mapping[str, Any] | None) -> int:
    """Of the plan's tokenizer, before anything is read; 0 where it cannot be told yet."""
    from bloomery.errors import BloomeryError
    from bloomery.stages.prepare import parse_data, planned_vocab

    try:
        return planned_vocab(parse_data(data)) if data else 0
    except BloomeryError:
        return 0
