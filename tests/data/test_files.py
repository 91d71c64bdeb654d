"""File sources: what is read comes back whole, and what is wrong is named with its file and line."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.data import files
from bloomery.data.corpus import Document, Source
from bloomery.data.files import Fields, JsonLines, ParquetFiles, TextFiles, clean_text
from bloomery.errors import DataError, MissingExtra
from support.real import ABSENT, REAL


def texts(source: Source) -> dict[str, str]:
    return {document.name: document.text for document in source.documents()}


def test_a_folder_gives_its_files_by_path_with_the_first_folder_as_category(tmp_path: Path) -> None:
    for name in ("b/two.txt", "b/deep/three.md", "a.txt", "skipped.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    found = list(TextFiles(tmp_path).documents())
    assert [(each.name, each.text, each.category) for each in found] == [
        ("a.txt", "a.txt", ""),
        ("b/deep/three.md", "b/deep/three.md", "b"),
        ("b/two.txt", "b/two.txt", "b"),
    ]
    assert list(texts(TextFiles(tmp_path, ["*.py"]))) == ["skipped.py"]


@given(
    st.text(alphabet="a \t\n\r\x0b\x0c\u2028", max_size=60), st.sampled_from(["file", "stretch", "paragraph", "line"])
)
def test_pieces_joined_are_the_file(text: str, cut: files.Cut) -> None:
    pieces = [text] if cut == "file" else files._pieces(text, cut)
    assert "".join(pieces) == text


def test_a_file_is_cut_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("one\nmore\n\n  \n\ntwo\n\nthree")
    source = TextFiles(tmp_path / "t.txt", cut="paragraph")
    assert list(texts(source).values()) == ["one\nmore\n\n  \n\n", "two\n\n", "three"]


def test_a_stretch_ends_with_the_paragraph_that_makes_it_long_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "STRETCH", 8)
    (tmp_path / "t.txt").write_text("one\n\ntwo\n\nthree is longer\n\n\nfour\n\n5")
    assert list(texts(TextFiles(tmp_path / "t.txt", cut="stretch")).items()) == [
        ("t.txt#0", "one\n\ntwo\n\n"),
        ("t.txt#1", "three is longer\n\n\n"),
        ("t.txt#2", "four\n\n5"),
    ]


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match=r"latin.txt: not UTF-8 at byte 3"):
        list(TextFiles(tmp_path).documents())


@pytest.mark.parametrize("source", [TextFiles, JsonLines])
def test_nothing_to_read_is_refused(tmp_path: Path, source: Callable[[Path], Source]) -> None:
    with pytest.raises(DataError, match="holds no file"):
        list(source(tmp_path).documents())
    with pytest.raises(DataError, match="does not exist"):
        list(source(tmp_path / "absent").documents())


ROWS = [
    {"id": "x", "body": "first", "topic": "maths", "session": 7},
    {"id": "y", "body": "zweites \u00e4", "topic": "code", "session": 7},
]
FIELDS = Fields("body", "id", "topic", "session")
READ = [Document("x", "first", "maths", "7"), Document("y", "zweites \u00e4", "code", "7")]


def test_json_lines_are_read_by_field(tmp_path: Path) -> None:
    lines = "\n\n".join(json.dumps(row) for row in ROWS)
    (tmp_path / "a.jsonl").write_text(lines)
    assert list(JsonLines(tmp_path, FIELDS).documents()) == READ
    assert list(texts(JsonLines(tmp_path, Fields("body")))) == ["a.jsonl#1", "a.jsonl#3"]
    (tmp_path / "a.jsonl").unlink()
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as stream:
        stream.write(lines)
    assert list(JsonLines(tmp_path, FIELDS).documents()) == READ


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', r"a.jsonl:2: not JSON"),
        ('["text"]', r"a.jsonl:2: a list"),
        ('{"tex": "t"}', r"a.jsonl:2: no field 'text'"),
        ('{"text": 3}', r"a.jsonl:2: the field 'text' holds a int"),
    ],
)
def test_a_bad_record_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        list(JsonLines(tmp_path).documents())


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud800b"}\n{"text": "\\ud83d\\ude00"}\n')
    assert list(texts(JsonLines(tmp_path)).values()) == ["a\ufffdb", "\U0001f600"]


@given(st.text(st.characters(codec="utf-8")))
def test_text_that_utf8_can_hold_is_left_alone(text: str) -> None:
    assert clean_text(text) == text


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"text": "t"}\n' * 1000)
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        list(JsonLines(tmp_path).documents())


def test_parquet_gives_what_json_lines_give(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `parquet`")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert list(ParquetFiles(tmp_path, FIELDS).documents()) == READ
    with pytest.raises(DataError, match=r"no column 'text'"):
        list(ParquetFiles(tmp_path).documents())
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="cannot be read"):
        list(ParquetFiles(tmp_path, FIELDS).documents())


def test_parquet_without_its_extra_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"bloomery\[parquet\]"):
        list(ParquetFiles(tmp_path).documents())


@pytest.mark.skipif(not REAL.is_dir(), reason=ABSENT)
def test_real_files_are_read_whole() -> None:
    peps = texts(JsonLines(REAL / "docs" / "peps.jsonl", Fields("text", "path")))
    assert len(peps) == 302
    assert sum(map(len, peps.values())) > 4_000_000
    shakespeare = REAL / "text" / "tinyshakespeare.txt"
    speeches = texts(TextFiles(shakespeare, cut="paragraph"))
    assert "".join(speeches.values()).encode() == shakespeare.read_bytes()
    assert len(speeches) > 7000
