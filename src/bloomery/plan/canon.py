"""The canonical form of plain data, and its sha256: what a registration and a fingerprint are made of.

JSON (RFC 8785 in spirit): keys sorted, no spaces, UTF-8, whole floats written as integers, other floats by their
shortest exact form. What has no canonical form is refused, never turned into text: NaN, infinities, keys that are not
text, sets, objects of unknown type.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from bloomery.errors import BloomeryError


def canonical(value: Any) -> str:
    """The canonical JSON text of mappings, lists, text, numbers, booleans, None and pydantic models of these.

    Models give their fields by alias, without those that equal their default, so that a new optional key of the
    grammar changes no digest. Raises BloomeryError, whose `where` is the key path, for everything else.
    """
    return json.dumps(_plain(value, ""), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical form, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(by_alias=True, exclude_defaults=True), path)
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise BloomeryError(path or "value", f"{value} has no canonical form", "a finite number")
        return int(value) if value.is_integer() else value
    if isinstance(value, Fraction):
        return _plain(int(value) if value.denominator == 1 else {"fraction": str(value)}, path)
    if isinstance(value, PurePath):
        raise BloomeryError(path or "value", f"the path {value} bears no identity", "text, or an artifact's digest")
    if isinstance(value, Mapping):
        out = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise BloomeryError(path or "value", f"the key {key!r} has no canonical form", "text")
            out[key] = _plain(item, f"{path}.{key}" if path else key)
        return out
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}.{index}" if path else str(index)) for index, item in enumerate(value)]
    raise BloomeryError(
        path or "value", f"a {type(value).__name__} has no canonical form", "text, numbers, lists and mappings"
    )


def changed_paths(before: Any, after: Any, path: str = "") -> list[str]:
    """Dotted key paths at which two plain values differ, in the order of the keys. Items with an `id` go by it."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        out = []
        for key in sorted({*before, *after}):
            below = f"{path}.{key}" if path else str(key)
            if key not in before or key not in after:
                out.append(below)
            else:
                out += changed_paths(before[key], after[key], below)
        return out
    if isinstance(before, list) and isinstance(after, list):
        named_before, named_after = _by_id(before), _by_id(after)
        if named_before is not None and named_after is not None:
            order = [path] if _moved(list(named_before), list(named_after)) else []
            return order + changed_paths(named_before, named_after, path)
        if len(before) == len(after):
            pairs = enumerate(zip(before, after, strict=True))
            return [found for index, (a, b) in pairs for found in changed_paths(a, b, f"{path}.{index}")]
    return [] if _same(before, after) else [path]


def _same(before: Any, after: Any) -> bool:
    return isinstance(before, bool) == isinstance(after, bool) and before == after


def _by_id(items: list[Any]) -> dict[str, Any] | None:
    ids = [item.get("id", item.get("name")) if isinstance(item, Mapping) else None for item in items]
    if not items or any(not isinstance(name, str) for name in ids) or len(set(ids)) != len(ids):
        return None
    return {str(name): item for name, item in zip(ids, items, strict=True)}


def _moved(before: list[str], after: list[str]) -> bool:
    common = set(before) & set(after)
    return [name for name in before if name in common] != [name for name in after if name in common]
