"""Arrays that may outgrow the machine's memory: from MAPPED_FROM bytes on they lie in mapped files of a folder.

Such a file has no name (O_TMPFILE): it goes with its last array, or with the process, however that ends, and nobody
finds it half written. So what lasts is only ever what was saved elsewhere. All of its room on the disk is taken when it
is made: a page that finds no room later would end the process with SIGBUS. Refuses (ArtifactError) where there is none.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bloomery.errors import ArtifactError

MAPPED_FROM = 16 << 20
"""Bytes of one array. In memory counting is some 10 to 25 % faster, and nothing is written back to a disk."""
_ZEROS = bytes(1 << 20)


def zeros(folder: Path | None, shape: int | Sequence[int], kind: DTypeLike) -> NDArray[Any]:
    """folder: where a large array's file lies; None: every array is in memory. Raises ArtifactError."""
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(kind)
    size = math.prod(sizes) * dtype.itemsize
    if folder is None or size < max(1, MAPPED_FROM):
        return np.zeros(sizes, dtype=dtype)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            _take(file, size)
            return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=dtype).reshape(sizes)
    except OSError as error:
        said = f"has no room for a table of {size:,} bytes: {error.strerror or error}"
        raise ArtifactError(str(folder), said, hint="make room there, or plan fewer store.bytes") from None


def _take(file: IO[bytes], size: int) -> None:
    allocate = getattr(os, "posix_fallocate", None)  # macOS has none
    if allocate is not None:
        allocate(file.fileno(), 0, size)
        return
    for start in range(0, size, len(_ZEROS)):
        file.write(_ZEROS[: size - start])
    file.flush()
