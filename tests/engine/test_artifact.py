"""Artifacts are what they contain; damage is found; writing is all or nothing."""

import errno
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine import artifact
from bloomery.engine.artifact import adopt, digest_of, digest_of_foreign, seal, unseal, write_atomically
from bloomery.errors import ArtifactError
from bloomery.measure import Group, Tally

NAMES = st.text("abc", min_size=1, max_size=3)
FILES = st.dictionaries(NAMES, st.binary(max_size=20), max_size=4)


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@given(files=FILES, other=FILES)
def test_the_digest_is_the_content_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], other: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("digest")
    one, two, three = fill(root / "one", files), fill(root / "elsewhere/two", files), fill(root / "three", other)
    os.utime(one, (1, 1))
    assert digest_of(one) == digest_of(two)
    assert (digest_of(one) == digest_of(three)) == (files == other)
    listed = "".join(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files))
    assert digest_of(one) == hashlib.sha256(listed.encode()).hexdigest()


def test_seal_and_unseal_are_inverse(tmp_path: Path) -> None:
    folder = fill(tmp_path / "model", {"a": b"1", "b": b"2"})
    (folder / "below").mkdir()
    (folder / "below" / "c").write_bytes(b"3")
    tally = Tally({"head": Group(10, 10, bits=16)})
    before = digest_of(folder)
    sealed = seal(folder, "train.model", "model", parents=("p" * 64,), tally=tally)
    assert sealed.digest == before == digest_of(folder)
    assert unseal(folder) == sealed
    assert unseal(folder).tally == tally


@pytest.mark.parametrize("how", ["changed", "cut short", "gone", "added", "seal gone", "seal torn", "seal of a list"])
def test_damage_is_found(tmp_path: Path, how: str) -> None:
    folder = fill(tmp_path / "model", {"weights": b"0123456789", "more": b"x"})
    seal(folder, "train.model", "model")
    match how:
        case "changed":
            (folder / "weights").write_bytes(b"0123456780")
        case "cut short":
            os.truncate(folder / "weights", 4)
        case "gone":
            (folder / "more").unlink()
        case "added":
            (folder / "new").write_bytes(b"")
        case "seal gone":
            (folder / "artifact.json").unlink()
        case "seal torn":
            os.truncate(folder / "artifact.json", 20)
        case _:
            (folder / "artifact.json").write_text("[]")
    with pytest.raises(ArtifactError) as caught:
        unseal(folder)
    assert str(folder) in caught.value.where
    assert "again" in caught.value.hint


def test_adopted_files_and_folders_carry_the_digest_that_they_had(tmp_path: Path) -> None:
    folder = fill(tmp_path / "given", {"a": b"1"})
    file = tmp_path / "single.bin"
    file.write_bytes(b"12")
    for source in (folder, file):
        expected = digest_of_foreign(source)
        adopted = adopt(source, tmp_path / "runs" / source.name, "base", digest=expected)
        assert adopted.digest == expected
        assert unseal(adopted.path).digest == expected
    assert (tmp_path / "runs" / "single.bin" / "single.bin").read_bytes() == b"12"
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["given", "single.bin"]


def test_adopting_replaces_what_was_adopted_before(tmp_path: Path) -> None:
    file = tmp_path / "given"
    for content in (b"1", b"2"):
        file.write_bytes(content)
        adopt(file, tmp_path / "target", "base")
    assert (tmp_path / "target" / "given").read_bytes() == b"2"


def test_adopting_what_is_not_there_or_is_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        adopt(tmp_path / "nothing", tmp_path / "target", "base")
    file = tmp_path / "given"
    file.write_bytes(b"1")
    with pytest.raises(ArtifactError, match="not the one"):
        adopt(file, tmp_path / "target", "base", digest="0" * 64)
    assert sorted(tmp_path.iterdir()) == [file]


def test_a_write_is_seen_whole(tmp_path: Path) -> None:
    file = tmp_path / "below" / "file.json"
    write_atomically(file, b"one")
    write_atomically(file, b"two")
    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["file.json"]


class FullDisk(io.BytesIO):
    """Takes some bytes, then is full."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def write(self, content: Any) -> int:
        self.file.write_bytes(bytes(content)[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("when", ["open", "write", "fsync", "replace"])
def test_on_a_full_disk_the_old_content_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    file = tmp_path / "file.json"
    file.write_bytes(b"old")

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if when == "open":
            patch.setattr(Path, "open", full)
        elif when == "write":
            patch.setattr(Path, "open", lambda self, mode: FullDisk(Path(os.fspath(self))))
            patch.setattr(Path, "write_bytes", lambda self, content: _write(self, content))
        else:
            patch.setattr(artifact.os, when, full)
        with pytest.raises(ArtifactError, match="No space left") as caught:
            write_atomically(file, b"new content")
    assert "free some space" in caught.value.hint
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def _write(file: Path, content: bytes) -> int:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    try:
        return os.write(descriptor, content)
    finally:
        os.close(descriptor)


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        write_atomically(tmp_path / "file" / "below", b"")
