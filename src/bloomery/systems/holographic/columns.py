"""Tables as the arrays of a file and back, block by block: keys, and counts of one byte each.

    NAME_keys       rising
    NAME_raw        at most 255; NAME_raw_at, NAME_raw_large: places and values of what is 255 and more
    NAME_adjusted   likewise
    NAME_gone       bytes of the table, keys dropped, and of them how many had an adjusted count of 1, 2, 3, 4

Arrays of a large table are mapped files (mapped.py), so that saving and opening it take no memory of its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from bloomery.systems.holographic.mapped import zeros
from bloomery.systems.holographic.store import BLOCK, COUNTS_OF_COUNTS, PLACE, Items, Table

WIDE = 255
COUNTED = ("raw", "adjusted")


def narrowed(name: str, values: Int[np.ndarray, " n"]) -> dict[str, NDArray[Any]]:
    """Counts as one byte each; those of 255 and more apart, with their places. Nothing is lost."""
    large = np.flatnonzero(values >= WIDE)
    return {
        name: np.minimum(values, WIDE).astype(np.uint8),
        f"{name}_at": large.astype(np.int64),
        f"{name}_large": values[large].astype(np.uint32),
    }


def widened(name: str, arrays: Mapping[str, NDArray[Any]]) -> Int[np.ndarray, " n"]:
    """What `narrowed` was given. Raises KeyError or IndexError for what it did not make."""
    values = arrays[name].astype(np.int64)
    values[arrays[f"{name}_at"]] = arrays[f"{name}_large"]
    return values


def arrays_of(table: Table, name: str) -> dict[str, NDArray[Any]]:
    small = {which: zeros(table.folder, table.used, np.uint8) for which in COUNTED}
    keys = zeros(table.folder, table.used, np.uint64)
    large: dict[str, list[NDArray[Any]]] = {f"{which}_{end}": [] for which in COUNTED for end in ("at", "large")}
    at = 0
    for items in table.blocks():
        stop = at + len(items.keys)
        keys[at:stop] = items.keys
        for which, values in zip(COUNTED, (items.raw, items.adjusted), strict=True):
            part = narrowed(which, values)
            small[which][at:stop] = part[which]
            large[f"{which}_at"].append(part[f"{which}_at"] + at)
            large[f"{which}_large"].append(part[f"{which}_large"])
        at = stop
    found = {"keys": keys, **small, **{which: np.concatenate(parts) for which, parts in large.items()}}
    found["gone"] = np.array([table.bytes, table.dropped, *table.forgotten])
    return {f"{name}_{which}": array for which, array in found.items()}


def wanted(name: str) -> dict[str, tuple[Any, tuple[int | str, ...]]]:
    """Of what `arrays_of` makes: types and shapes, as `saved.fitting` takes them."""
    found: dict[str, Any] = {"keys": (np.uint64, ("",)), "gone": (np.int64, (2 + COUNTS_OF_COUNTS,))}
    for which in COUNTED:
        found |= {which: (np.uint8, ("",)), f"{which}_at": (np.int64, (f" {which}",))}
        found[f"{which}_large"] = (np.uint32, (f" {which}",))
    shapes = {which: (kind, tuple(name + one if isinstance(one, str) else one for one in shape))
              for which, (kind, shape) in found.items()}  # fmt: skip
    return {f"{name}_{which}": each for which, each in shapes.items()}


def put_back(table: Table, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Into a table that is empty. Raises ValueError or IndexError for what `arrays_of` did not make."""
    size, table.dropped, *forgotten = (int(one) for one in arrays[f"{name}_gone"])
    if len(arrays[f"{name}_keys"]) * PLACE.itemsize >= size:
        raise ValueError(f"'{name}_keys' take more than {size} bytes")
    table.put(_blocks(name, arrays), size)
    table.forgotten[:] = forgotten


def _blocks(name: str, arrays: Mapping[str, NDArray[Any]]) -> Iterator[Items]:
    keys = arrays[f"{name}_keys"]
    places = [arrays[f"{name}_{which}_at"] for which in COUNTED]
    if any(len(at) and not (at.min() >= 0 and at.max() < len(keys)) for at in places):
        raise IndexError(f"'{name}' has large counts at places that it lacks")
    for start in range(0, len(keys), BLOCK):
        part = slice(start, start + BLOCK)
        columns: list[Int[np.ndarray, " n"]] = []
        for which, at in zip(COUNTED, places, strict=True):
            here = slice(*np.searchsorted(at, (start, start + BLOCK)))
            columns.append(widened(which, {
                which: arrays[f"{name}_{which}"][part], f"{which}_at": at[here] - start,
                f"{which}_large": arrays[f"{name}_{which}_large"][here],
            }))  # fmt: skip
        yield Items(keys[part], *columns)
