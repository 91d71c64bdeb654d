"""Small C libraries, compiled on first use and kept: `load(source, functions)` gives a ctypes library, or None.

The compiler is $CC, else the first of cc, gcc, clang. A library's file is named by the sha256 of source, flags,
compiler and processor, then by that of its own bytes, so that a damaged file is known before it is loaded (a truncated
one would end the process with SIGBUS) and built again. It is built beside its place and moved there in one step: any
number of processes may do so at once. The place is below $BLOOMERY_CACHE, else $XDG_CACHE_HOME/bloomery, else
~/.cache/bloomery.

None means that the caller's torch path runs, with the same result up to the order of sums. The reason goes to the log
once, and `refusals` keeps it: no compiler, a source it cannot compile, a folder that cannot be written to or that
others can write to, Windows, or BLOOMERY_NATIVE=0. Only sources that came with the program are compiled, and none of
them may need -ffast-math (before GCC 13 a library built with it switches denormals off in the whole process: write
`#pragma omp simd reduction` instead) or OpenMP's threads (torch brings a runtime of its own; ctypes lets go of the
interpreter's lock, so that Python's threads can share the work).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fopenmp-simd")
TARGETS = (("-march=native",), ("-mcpu=native",), ())
"""Tried in this order: clang for ARM knows only the second, and some compilers neither."""
PATIENCE_SECONDS = 120

refusals: dict[str, str] = {}
"""{source file's name: why it is not used}, of this process so far."""

_loaded: dict[tuple[object, ...], ctypes.CDLL | str] = {}
"""{source and what of the environment matters: the library, or why there is none}."""
_typed: dict[tuple[object, ...], set[str]] = {}
_lock = threading.Lock()


class NotAvailable(Exception):
    """Why there is no library, or no cache."""


class Compiler(NamedTuple):
    command: tuple[str, ...]
    version: str


def load(source: Path, functions: Mapping[str, Sequence[Any]]) -> ctypes.CDLL | None:
    """The library built from `source`, or None where there is none to be had (see `refusals`).

    functions: {name: (result type or None, *argument types)}, as in `{"dot": (c_float, c_void_p, c_void_p, c_long)}`.
    A function that the source lacks is a bug of ours and raises AttributeError.
    """
    with _lock:
        names = ("BLOOMERY_NATIVE", "BLOOMERY_CACHE", "XDG_CACHE_HOME", "HOME", "CC", "PATH")
        key = (source, *(os.environ.get(name) for name in names))
        if key not in _loaded:
            try:
                _loaded[key] = _library(source)
            except NotAvailable as reason:
                _loaded[key] = str(reason)
                log.warning("%s is not used, torch does its work: %s", source.name, reason)
        library = _loaded[key]
        refusals.pop(source.name, None)
        if isinstance(library, str):
            refusals[source.name] = library
            return None
        for name in functions.keys() - _typed.setdefault(key, set()):
            function = getattr(library, name)
            function.restype, *function.argtypes = functions[name]
            _typed[key].add(name)
        return library


def describe() -> str:
    """One line for `bloomery doctor`: what C sources would be compiled with and where they are kept, or why not."""
    try:
        compiler, folder = _compiler(), kept_in("native")
    except NotAvailable as reason:
        return f"C kernels: none, torch does their work ({reason})"
    failed = "".join(f"; {name} is not used: {reason}" for name, reason in refusals.items())
    return f"C kernels: compiled by {compiler.version} on first use, kept in {folder}{failed}"


def _library(source: Path) -> ctypes.CDLL:
    compiler, folder, text = _compiler(), kept_in("native"), source.read_bytes()
    for target in TARGETS:
        if found := _find(folder, _key(text, compiler, target)):
            with contextlib.suppress(OSError):  # whole, but not for this system: a home shared by machines
                return ctypes.CDLL(str(found))
    failures: list[str] = []
    for target in TARGETS:
        try:
            return ctypes.CDLL(str(_build(source, text, compiler, target, folder)))
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None)
            lines = str(said or error).strip().splitlines()
            failures.append(next((line for line in lines if "error" in line), lines[0] if lines else "no message"))
    raise NotAvailable(f"{' '.join(compiler.command)}: {failures[-1]}")


def _compiler() -> Compiler:
    if os.environ.get("BLOOMERY_NATIVE") == "0":
        raise NotAvailable("BLOOMERY_NATIVE=0")
    if sys.platform == "win32":
        raise NotAvailable("Windows is not covered")
    wanted = os.environ.get("CC")
    names = [wanted] if wanted else list(COMPILERS)
    for name in names:
        try:
            command = tuple(shlex.split(name))
        except ValueError as error:
            raise NotAvailable(f"CC={name!r}: {error}") from None
        if command and shutil.which(command[0]):
            return Compiler(command, _version(command))
    raise NotAvailable(f"no C compiler: looked for {', '.join(names)}")


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise NotAvailable(f"{' '.join(command)} does not run: {error}") from error
    return (done.stdout.splitlines() or [" ".join(command)])[0]


def kept_in(name: str) -> Path:
    """A folder of the cache; ours alone, for what lies in it is executed or believed. Raises NotAvailable."""
    try:
        named, base = os.environ.get("BLOOMERY_CACHE"), os.environ.get("XDG_CACHE_HOME")
        top = Path(named) if named else Path(base or Path.home() / ".cache") / "bloomery"
    except RuntimeError as error:
        raise NotAvailable(f"no cache folder: {error}") from None
    folder = top / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise NotAvailable(f"no cache folder: {error}") from error
    if status.st_uid != os.getuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NotAvailable(f"others can write to {folder}: chmod 700 it")
    return folder


def _key(text: bytes, compiler: Compiler, target: tuple[str, ...]) -> str:
    words = (shlex.join(compiler.command), compiler.version, *FLAGS, *target, *processor())
    digest = hashlib.sha256()
    for part in (text, *(word.encode() for word in words)):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


@functools.cache
def processor() -> tuple[str, ...]:
    """What -march=native looks at: system, architecture, the processor's name and its instruction sets."""
    names = ("model name", "flags", "Features", "CPU part")
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = {line for line in lines if line.partition("\t")[0].partition(":")[0].strip() in names}
    return (platform.system(), platform.machine(), platform.processor(), *sorted(found))


def _find(folder: Path, key: str) -> Path | None:
    """The library of this key whose bytes are those that were built; damaged ones are removed."""
    for file in sorted(folder.glob(f"{key}-*.so")):
        with contextlib.suppress(OSError):
            if _place(folder, key, file.read_bytes()) == file:
                return file
            file.unlink()
    return None


def _place(folder: Path, key: str, library: bytes) -> Path:
    return folder / f"{key}-{hashlib.sha256(library).hexdigest()[:32]}.so"


def _build(source: Path, text: bytes, compiler: Compiler, target: tuple[str, ...], folder: Path) -> Path:
    """Compile into a temporary file of the same folder, then move. Raises OSError or SubprocessError."""
    with _scratch(folder) as scratch:
        made = scratch / "library.so"
        # From standard input: what is compiled is what was hashed.
        command = [*compiler.command, *FLAGS, *target, "-x", "c", "-", "-o", str(made), "-lm"]
        done = subprocess.run(command, input=text, capture_output=True, timeout=PATIENCE_SECONDS, check=False)
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").replace("<stdin>", source.name)
            raise subprocess.CalledProcessError(done.returncode, command, stderr=said)
        place = _place(folder, _key(text, compiler, target), made.read_bytes())
        made.chmod(0o600)
        made.replace(place)
    return place


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    try:
        scratch = tempfile.TemporaryDirectory(dir=folder)
    except OSError as error:
        raise NotAvailable(f"the cache folder cannot be written to: {error}") from error
    with scratch as name:
        yield Path(name)
