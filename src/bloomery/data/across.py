"""Documents that stand in several sets: a model that learns from one set must not be judged on its text in another.

Two documents are one where their stripped text is the same, whatever they are called; those of fewer than
SHORTEST_LINE characters are alike everywhere and are left out. Splits go by name, so the same files under other names,
or with other shares, fall on other sides. Cut otherwise (paragraphs here, files there) they are not recognised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import permutations

from bloomery.data.split import SHORTEST_LINE


def document_keys(texts: Iterable[str]) -> set[int]:
    """64-bit hashes of the texts."""
    stripped = (text.strip() for text in texts)
    return {
        int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
        for text in stripped
        if len(text) >= SHORTEST_LINE
    }


def shared_documents(keys: Mapping[str, set[int]]) -> dict[str, dict[str, int]]:
    """{part: {part of another set: documents that stand in both}}, only where there are any. Parts are SET:SPLIT."""
    out: dict[str, dict[str, int]] = {}
    for one, other in permutations(keys, 2):
        if one.partition(":")[0] != other.partition(":")[0] and (count := len(keys[one] & keys[other])):
            out.setdefault(one, {})[other] = count
    return out
