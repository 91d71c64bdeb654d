"""Reading what memories saved: arrays of the type and shape that they must have, and one error for everything else.

A file that was cut short or changed is told by its digest (evaluate.ngram_files). This is for one that is whole, and
was written by something else: another version, another variant, a hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.errors import ArtifactError, PlanError
from bloomery.evaluate.ngram_files import read_arrays
from bloomery.systems.holographic.mapped import zeros

Arrays = Mapping[str, NDArray[Any]]
WHAT = "a memory as this version saves it"
FAULTS = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, PlanError)
"""What reading raises where something is no array or number of ours."""


@contextmanager
def reading(
    file: Path, hint: str = "wake it again", *, working: Path | None = None
) -> Iterator[tuple[dict[str, NDArray[Any]], dict[str, Any]]]:
    """(arrays, what the file says about itself). working: of mapped files, for large arrays. Raises ArtifactError where
    it is missing or damaged, or where the body stumbles over what it holds."""
    arrays = read_arrays(file, WHAT, hint, room=lambda shape, kind: zeros(working, shape, kind))
    try:
        about = json.loads(arrays["about"].tobytes())
        if not isinstance(about, dict):
            raise TypeError("'about' is no mapping")
        yield arrays, about
    except FAULTS as error:
        said = f"lacks {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0]
        raise ArtifactError(str(file), f"damaged ({said})", WHAT, hint) from None


def fitting(arrays: Arrays, wanted: Mapping[str, tuple[Any, tuple[int | str, ...]]]) -> None:
    """Raises KeyError or ValueError where an array is not as wanted: {name: (type, shape)}. A letter in a shape stands
    for any number, the same one wherever it stands."""
    sizes: dict[str, int] = {}
    for name, (kind, shape) in wanted.items():
        found = arrays[name]
        fits = found.dtype == np.dtype(kind) and found.ndim == len(shape)
        if fits:
            for size, one in zip(found.shape, shape, strict=True):
                fits &= size == (sizes.setdefault(one, size) if isinstance(one, str) else one)
        if not fits:
            raise ValueError(f"'{name}' is {found.dtype} {list(found.shape)}, not {np.dtype(kind)} {list(shape)}")


def within(name: str, values: NDArray[Any], below: int) -> None:
    """Raises ValueError for numbers that are not from 0 up to `below`."""
    if len(values) and not (values.min() >= 0 and values.max() < below):
        raise ValueError(f"'{name}' holds {values.min()} to {values.max()}, not 0 to {below - 1}")


def whole(about: Mapping[str, Any], *names: str) -> list[int]:
    """These, which must be whole numbers from 0 on."""
    for name in names:
        if type(about[name]) is not int or about[name] < 0:
            raise ValueError(f"'{name}' is {about[name]!r}, no whole number from 0 on")
    return [about[name] for name in names]
