"""The token file: what was written is read back, and damage of any kind is refused."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer, WordsTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.errors import DataError

TEXTS = ["first text", "", "Größe", "x" * 1000]


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=5)), max_size=8))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_written_is_read_back(tmp_path: Path, given_documents: list[tuple[str, str]]) -> None:
    documents = [Document(str(n), text, category) for n, (text, category) in enumerate(given_documents)]
    tokenizer = BytesTokenizer()
    file = write_token_file(tmp_path / "any.tokens", documents, tokenizer)
    expected = [id for each in documents for id in (*each.text.encode(), 256)]
    assert file.tokens.tolist() == expected
    assert file.documents == len(documents)
    assert [tokenizer.decode(file.document(n)) for n in range(file.documents)] == [each.text for each in documents]
    assert file.byte_counts.tolist() == [len(each.text.encode()) for each in documents]
    assert (file.names, file.categories) == (
        tuple(each.name for each in documents), tuple(each.category for each in documents),
    )  # fmt: skip
    assert file.starts.tolist() == np.cumsum([0] + [len(each.text.encode()) + 1 for each in documents]).tolist()
    file.verify()


def test_tokens_stay_on_disk_and_cannot_be_written(write_file: Callable[..., TokenFile]) -> None:
    file = write_file(TEXTS)
    assert not file.tokens.flags.owndata
    assert not file.tokens.flags.writeable
    assert file.tokens.dtype == np.uint16


def test_a_vocabulary_above_65536_takes_four_bytes(tmp_path: Path) -> None:
    words = WordsTokenizer([f"word{n}" for n in range(70_000)], 70_257)
    file = write_token_file(tmp_path / "wide.tokens", [Document("a", "word69999")], words)
    assert file.tokens.dtype == np.uint32
    assert file.tokens.tolist() == [257 + 69_999, 256]


def test_one_content_has_one_digest_and_another_has_another(write_file: Callable[..., TokenFile]) -> None:
    digest = write_file(TEXTS, "a/train").digest
    assert write_file(TEXTS, "b/val").digest == digest
    assert write_file(TEXTS[::-1], "c/train").digest != digest
    assert write_file(["".join(TEXTS)], "d/train").digest != digest


@pytest.mark.parametrize("keep", [0, 10, 63, 64, 100, -1])
def test_a_file_cut_short_is_refused_on_opening(write_file: Callable[..., TokenFile], keep: int) -> None:
    path = write_file(TEXTS).path
    content = path.read_bytes()
    path.write_bytes(content[:keep])
    with pytest.raises(DataError, match=r"cut short|first bytes"):
        TokenFile.open(path)


def test_a_longer_file_and_a_foreign_one_are_refused(write_file: Callable[..., TokenFile]) -> None:
    path = write_file(TEXTS).path
    content = path.read_bytes()
    path.write_bytes(content + b"\0")
    with pytest.raises(DataError, match="bytes, by its header"):
        TokenFile.open(path)
    path.write_bytes(b"NOTMAGIC" + content[8:])
    with pytest.raises(DataError, match="no token file"):
        TokenFile.open(path)


def test_a_changed_byte_is_found_by_verify(write_file: Callable[..., TokenFile]) -> None:
    path = write_file(TEXTS).path
    content = bytearray(path.read_bytes())
    for position in (28, 64, 70, len(content) - 1):  # end_of_document, tokens, byte_counts
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            TokenFile.open(path).verify()


@pytest.mark.parametrize("card", [None, "", "[]", "{}", '{"names": ["a"]}'])
def test_a_missing_or_damaged_sidecar_is_refused(write_file: Callable[..., TokenFile], card: str | None) -> None:
    path = write_file(TEXTS).path
    sidecar = path.with_name(path.name + ".json")
    if card is None:
        sidecar.unlink()
    else:
        sidecar.write_text(card)
    with pytest.raises(DataError):
        TokenFile.open(path)


def test_other_names_in_the_sidecar_are_found_by_verify(write_file: Callable[..., TokenFile]) -> None:
    path = write_file(TEXTS).path
    sidecar = path.with_name(path.name + ".json")
    sidecar.write_text(sidecar.read_text().replace('"0.txt"', '"other.txt"'))
    with pytest.raises(DataError, match="differs from its digest"):
        TokenFile.open(path).verify()


def test_a_source_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def documents() -> Iterator[Document]:
        for number in range(1000):
            yield Document(str(number), "text " * 100)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left"):
        write_token_file(tmp_path / "half.tokens", documents(), BytesTokenizer())
    assert list(tmp_path.iterdir()) == []
