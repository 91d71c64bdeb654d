"""Where text comes from: a Source yields Documents in a fixed order, and says under which licence.

Here stand the interface and the two sources that every machine has: `stdlib`, the Python standard library's own source,
and `docstrings`, what is written in it. Files and hub data sets are in `files.py` and `hub.py`, splits in `split.py`.

Selection of `stdlib` (specs/data.md, section 3): every `*.py` below sysconfig's `stdlib`, without site-packages,
dist-packages, tests, tables (encodings, pydoc_data, `_sysconfigdata*`, config-*) and the folders in DROPPED_FOLDERS;
files above 200 kB or not in UTF-8 are dropped; the order is that of the posix relative path, which is also the name.

A Python without its source files (embedded, zipped, frozen) is refused with what to use instead.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bloomery.errors import DataError

DROPPED_FOLDERS = frozenset({
    "site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__", "encodings", "pydoc_data", "lib2to3",
    "distutils", "idlelib", "turtledemo", "tkinter", "ensurepip",
})  # fmt: skip
LARGEST_FILE_BYTES = 200_000
FEWEST_FILES = 50
"""Any Python with its library has hundreds of files left; fewer means that the source is not there."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text. `name` is unique within its source and never holds an absolute path."""

    name: str
    text: str
    category: str = ""
    group: str = ""
    """What the split is decided by, where it is not the name: documents of one group never part."""
    prompt: int = 0
    """How many characters at its start are a prompt: shown to a model, not learned from, and not judged."""


class Source(Protocol):
    """A stream of documents. Reading it twice gives the same documents in the same order."""

    @property
    def licence(self) -> str: ...

    def documents(self) -> Iterator[Document]: ...

    def provenance(self) -> dict[str, Any]:
        """What is known before reading: version, revision, pattern. Never a path of this machine. What is known after
        reading (documents, bytes, sha256 of the concatenation) is a Census."""
        ...


@dataclass(slots=True)
class Census:
    """Documents, bytes and the sha256 of the concatenated UTF-8 text, counted while they pass by."""

    documents: int = 0
    bytes: int = 0
    _hash: Any = field(default_factory=hashlib.sha256, repr=False)

    def count(self, document: Document) -> int:
        """Adds a document; returns its size in bytes."""
        content = document.text.encode()
        self._hash.update(content)
        self.documents += 1
        self.bytes += len(content)
        return len(content)

    @property
    def sha256(self) -> str:
        return str(self._hash.hexdigest())

    def to_json(self) -> dict[str, Any]:
        return {"documents": self.documents, "bytes": self.bytes, "sha256": self.sha256}


def take_census(source: Source) -> Census:
    """Reads the whole source once."""
    census = Census()
    for document in source.documents():
        census.count(document)
    return census


@dataclass(frozen=True, slots=True)
class StandardLibrary:
    """The source files of the Python that runs, or of another one at `root`. The category is `code`."""

    root: Path | None = None
    licence: str = "PSF-2.0"

    def files(self) -> list[tuple[str, Path]]:
        """[(posix relative path, file)] in order; content is not looked at yet.

        Raises DataError where the Python has no source files.
        """
        root = self.root or Path(sysconfig.get_path("stdlib"))
        found: list[tuple[str, Path]] = []
        for folder, below, names in os.walk(root):
            below[:] = [one for one in below if not _is_dropped(one)]
            chosen = [one for one in names if one.endswith(".py") and not one.startswith("_sysconfigdata")]
            found += [(file.relative_to(root).as_posix(), file) for file in (Path(folder, one) for one in chosen)]
        found.sort()
        if self.root is None and len(found) < FEWEST_FILES:
            raise DataError(
                str(root),
                f"this Python brings {len(found)} source files of its standard library",
                "the .py files of the standard library (an embedded, zipped or frozen Python has none)",
                "run Bloomery under a full Python, or write {source: text, folder: ...} in the plan",
            )
        return found

    def documents(self) -> Iterator[Document]:
        for name, file in self.files():
            content = file.read_bytes()
            if len(content) > LARGEST_FILE_BYTES:
                continue
            try:
                yield Document(name, content.decode("utf-8"), "code")
            except UnicodeDecodeError:
                continue

    def provenance(self) -> dict[str, Any]:
        return {"source": "stdlib", "python": platform.python_version(), "licence": self.licence}


def _is_dropped(folder: str) -> bool:
    return folder in DROPPED_FOLDERS or folder.startswith("config-")


@dataclass(frozen=True, slots=True)
class Docstrings:
    """The docstrings of the standard library: one document each, named `FILE::QUALNAME`, grouped by file. The category
    is the module: `email.message`.

    The text is the docstring as `inspect.cleandoc` leaves it. A file's docstrings are split as the file is, so those in
    `val` come from files that no model trained on the stdlib's `train` has seen.
    """

    library: StandardLibrary = StandardLibrary()
    licence: str = "PSF-2.0"

    def documents(self) -> Iterator[Document]:
        for file in self.library.documents():
            module = file.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            seen: dict[str, int] = {}
            for qualname, text in _docstrings(file.text):
                seen[qualname] = seen.get(qualname, 0) + 1
                again = f"#{seen[qualname]}" if seen[qualname] > 1 else ""
                yield Document(f"{file.name}::{qualname}{again}", text, module, group=file.name)

    def provenance(self) -> dict[str, Any]:
        return {**self.library.provenance(), "source": "docstrings", "category": "module"}


def _docstrings(source: str) -> Iterator[tuple[str, str]]:
    """(qualified name, docstring) in the order of the file; the module's own name is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's escapes are not our user's warnings
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and text.strip():
                yield name, text
        children: list[tuple[str, ast.AST]] = []
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                children.append((f"{name}.{child.name}".lstrip("."), child))
            elif isinstance(child, ast.If | ast.Try | ast.With):
                children.append((name, child))
        waiting.extend(reversed(children))
