"""The stdlib corpus against a second reading of its rule, and docstrings against the imported modules."""

import hashlib
import inspect
import os
import shutil
import sysconfig
import textwrap
from pathlib import Path

import pytest

from bloomery.data.corpus import Docstrings, StandardLibrary, take_census
from bloomery.errors import DataError


def by_the_rule() -> dict[str, bytes]:
    """specs/data.md section 3, walked with os.walk."""
    root = sysconfig.get_path("stdlib")
    never = [
        "site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "pydoc_data", "lib2to3",
        "distutils", "idlelib", "turtledemo", "tkinter", "ensurepip",
    ]  # fmt: skip
    found: dict[str, bytes] = {}
    for folder, _, names in os.walk(root):
        relative = os.path.relpath(folder, root).replace(os.sep, "/")
        parts = [] if relative == "." else relative.split("/")
        if any(part in never or part.startswith("config-") for part in parts):
            continue
        for name in names:
            if not name.endswith(".py") or name.startswith("_sysconfigdata"):
                continue
            content = Path(folder, name).read_bytes()
            try:
                content.decode("utf-8")
            except UnicodeDecodeError:
                continue
            if len(content) <= 200_000:
                found["/".join([*parts, name])] = content
    return found


def test_the_standard_library_is_selected_by_the_rule_and_ordered_by_path() -> None:
    expected = by_the_rule()
    documents = list(StandardLibrary().documents())
    assert [document.name for document in documents] == sorted(expected)
    assert all(document.text.encode() == expected[document.name] for document in documents)
    assert {document.category for document in documents} == {"code"}
    assert 6e6 < sum(map(len, expected.values())) < 9e6


def test_the_census_hashes_the_concatenation() -> None:
    library = StandardLibrary()
    content = b"".join(document.text.encode() for document in library.documents())
    census = take_census(library)
    assert (census.bytes, census.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert "PSF-2.0" in str(library.provenance())
    assert sysconfig.get_path("stdlib") not in str(library.provenance())


def test_a_python_without_sources_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "os.pyc").write_bytes(b"")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(DataError) as caught:
        next(StandardLibrary().documents())
    assert "source: text" in caught.value.hint
    assert "embedded" in caught.value.expected


def test_large_and_undecodable_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "kept.py").write_text("x = 1\n")
    (tmp_path / "large.py").write_text("#" * 200_001)
    (tmp_path / "limit.py").write_text("#" * 200_000)
    (tmp_path / "latin.py").write_bytes(b"# caf\xe9\n")
    for folder in ("test", "site-packages", "config-3.11-x86_64-linux-gnu", "json"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "inside.py").write_text("")
    names = [document.name for document in StandardLibrary(tmp_path).documents()]
    assert names == ["json/inside.py", "kept.py", "limit.py"]


def test_docstrings_are_what_inspect_finds_under_the_same_names(tmp_path: Path) -> None:
    shutil.copy(textwrap.__file__, tmp_path)
    found = {document.name: document for document in Docstrings(StandardLibrary(tmp_path)).documents()}
    assert found["textwrap.py::dedent"].text == inspect.getdoc(textwrap.dedent)
    assert found["textwrap.py::TextWrapper.fill"].text == inspect.getdoc(textwrap.TextWrapper.fill)
    assert found["textwrap.py::"].text == inspect.getdoc(textwrap)
    assert found["textwrap.py::dedent"].group == "textwrap.py"


@pytest.mark.slow
def test_the_standard_library_has_thousands_of_docstrings_with_names_of_their_own() -> None:
    names = [document.name for document in Docstrings().documents()]
    assert len(names) > 5000
    assert len(set(names)) == len(names)


def test_docstrings_of_one_name_in_one_file_stay_apart(tmp_path: Path) -> None:
    source = 'if True:\n    def f():\n        "one"\nelse:\n    def f():\n        "two"\n'
    (tmp_path / "twice.py").write_text(source)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "escape.py").write_text('def g():\n    "a"\n    return "\\d"\n')
    found = [(document.name, document.text) for document in Docstrings(StandardLibrary(tmp_path)).documents()]
    assert found == [("escape.py::g", "a"), ("twice.py::f", "one"), ("twice.py::f#2", "two")]
