"""The file of an n-gram table, `ngram.npz`: arrays without pickle, written whole or not at all. Refuses damage.

It carries a sha256 over the names and contents of its arrays: the checksums of a zip file do not tell that one of its
members is gone.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bloomery.errors import ArtifactError

FILE = "ngram.npz"
DIGEST = "digest"
AT_ONCE = 1 << 20
Room = Callable[[tuple[int, ...], np.dtype[Any]], NDArray[Any]]


def write_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]], name: str = FILE) -> None:
    """name: of the file in the folder. Raises ArtifactError where the folder cannot be written to."""
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays, **{DIGEST: _digest(arrays)})  # pyright: ignore[reportArgumentType]
        os.replace(temporary, folder / name)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ArtifactError(str(folder), f"cannot be written: {error.strerror or error}") from error


def read_arrays(
    path: Path, what: str = "a saved n-gram table", hint: str = "fit it again", *, room: Room = np.empty
) -> dict[str, NDArray[Any]]:
    """what, hint: of the error; room: (shape, dtype) -> where an array is read to. Raises ArtifactError where the file
    is missing or damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {name: _member(stored.zip, name, room) for name in stored}
        digest = arrays.pop(DIGEST)
    except FileNotFoundError:
        raise ArtifactError(str(path), "does not exist", what, hint) from None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ArtifactError(str(path), f"damaged ({error})", what, hint) from None
    if not np.array_equal(digest, _digest(arrays)):
        raise ArtifactError(str(path), "damaged (its content is not what was written)", what, hint)
    return arrays


def _member(stored: zipfile.ZipFile, name: str, room: Room) -> NDArray[Any]:
    """What np.load would give, a megabyte after the other."""
    with stored.open(f"{name}.npy") as member:
        if np.lib.format.read_magic(member) != (1, 0):
            raise ValueError(f"'{name}' is of another format")
        shape, by_column, kind = np.lib.format.read_array_header_1_0(member)
        if by_column or kind.hasobject:
            raise ValueError(f"'{name}' is no array of ours")
        array = room(shape, kind)
        content = array.reshape(-1).view(np.uint8)
        for start in range(0, len(content), AT_ONCE):
            part = content[start : start + AT_ONCE]
            read = member.read(len(part))
            if len(read) != len(part):
                raise EOFError(f"'{name}' ends too early")
            part[:] = np.frombuffer(read, dtype=np.uint8)
        if member.read(1):  # and the checksum is looked at
            raise ValueError(f"'{name}' is too long")
        return array


def _digest(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    hasher = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        hasher.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        hasher.update(np.ascontiguousarray(array).data)
    return np.frombuffer(hasher.digest(), dtype=np.uint8)
