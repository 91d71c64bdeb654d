"""Preparation: train text alone teaches the tokenizer, nothing half-written stays, and nothing is made twice."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bloomery.data import build as build_module
from bloomery.data.build import SetRecipe, TokenizerRecipe, build
from bloomery.data.corpus import Document
from bloomery.data.prepared import MANIFEST, Prepared
from bloomery.data.split import bucket_rule, share_rule
from bloomery.data.tokenizer import train_bpe
from bloomery.errors import ArtifactError, DataError

SPLITS = ("train", "dev", "val")
BPE = TokenizerRecipe("bpe", 300)


@dataclass
class Words:
    """A source in memory that counts how often it is read."""

    texts: dict[str, str]
    licence: str = "none"
    reads: list[int] = field(default_factory=list)

    def documents(self) -> Iterator[Document]:
        self.reads.append(1)
        for name, text in self.texts.items():
            yield Document(name, text)

    def provenance(self) -> dict[str, Any]:
        return {"source": "words", "licence": self.licence}


def corpus(count: int = 60) -> Words:
    return Words({f"{n}.txt": f"document {n} says that word{n} is a rather long line\n" * 3 for n in range(count)})


def make(out: Path, source: Words, *, spec: object = "spec", tokenizer: TokenizerRecipe = BPE, **more: Any) -> Prepared:
    recipe = SetRecipe(source, bucket_rule(), SPLITS, **more)
    return build(out, {"corpus": recipe}, tokenizer, {"spec": spec}, lambda **facts: None)


def test_no_document_is_in_two_splits_and_none_is_lost(tmp_path: Path) -> None:
    source = corpus()
    prepared = make(tmp_path / "data", source)
    names = [prepared.part(f"corpus:{split}").names for split in SPLITS]
    assert sorted(name for part in names for name in part) == sorted(source.texts)
    rule = bucket_rule()
    for split, part in zip(SPLITS, names, strict=True):
        assert {rule(name) for name in part} == {split}
        file = prepared.part(f"corpus:{split}")
        assert [prepared.tokenizer.decode(file.document(n)) for n in range(len(part))] == [
            source.texts[name] for name in part
        ]
    record = prepared.manifest["sets"]["corpus"]
    assert record["documents"] == 60
    assert record["bytes"] == sum(len(text) for text in source.texts.values())


def test_the_tokenizer_has_seen_train_text_and_no_other(tmp_path: Path) -> None:
    source = corpus()
    rule = bucket_rule()
    prepared = make(tmp_path / "data", source)
    train = [text for name, text in source.texts.items() if rule(name) == "train"]
    assert prepared.tokenizer.digest == train_bpe(train, 300).digest
    changed = Words(
        {name: text if rule(name) == "train" else "quite other text" for name, text in source.texts.items()}
    )
    assert make(tmp_path / "other", changed).tokenizer.digest == prepared.tokenizer.digest


def test_the_limit_on_tokenizer_text_is_kept(tmp_path: Path) -> None:
    source = corpus()
    train = [text for name, text in source.texts.items() if bucket_rule()(name) == "train"]
    limit = sum(len(text) for text in train[:5]) + 3
    recipe = TokenizerRecipe("bpe", 300, max_bytes=limit)
    assert make(tmp_path / "data", source, tokenizer=recipe).tokenizer.digest == train_bpe(train[:5], 300).digest


def test_overlap_counts_the_lines_of_val_that_train_has(tmp_path: Path) -> None:
    source = corpus()
    rule = bucket_rule()
    shared, short = "a long line that many files have\n", "short line\n"
    for name in source.texts:
        if rule(name) == "train" or name in [n for n in source.texts if rule(n) == "val"][:1]:
            source.texts[name] += "   " + shared + short
    by_split = {split: [text for name, text in source.texts.items() if rule(name) == split] for split in SPLITS}

    def lines(texts: list[str]) -> list[str]:
        return [line.strip() for text in texts for line in text.splitlines() if len(line.strip()) >= 20]

    train = set(lines(by_split["train"]))
    overlap = make(tmp_path / "data", source).manifest["sets"]["corpus"]["overlap"]
    for split in ("dev", "val"):
        found = lines(by_split[split])
        copies = sum(line in train for line in found)
        assert overlap[split] == {"lines": len(found), "in_train": copies, "share": copies / len(found)}
    assert overlap["val"]["in_train"] == 1


def test_deduplicated_text_shares_no_long_line_between_splits(tmp_path: Path) -> None:
    source = corpus()
    for name in source.texts:
        source.texts[name] += "a long line that all of the files have\n"
    record = make(tmp_path / "data", source, deduplicate=True).manifest["sets"]["corpus"]
    assert {found["in_train"] for found in record["overlap"].values()} == {0}
    assert record["duplicate_lines_dropped"] == 2 * 60 + 59


def test_the_same_is_kept_and_anything_else_made_anew(tmp_path: Path) -> None:
    out, source = tmp_path / "data", corpus()
    first = make(out, source)
    stamp = (out / MANIFEST).stat().st_ino
    assert make(out, source).digest == first.digest
    assert (out / MANIFEST).stat().st_ino == stamp
    assert make(out, source, spec="another").digest == first.digest
    assert (out / MANIFEST).stat().st_ino != stamp
    source.texts["0.txt"] += "changed"
    assert make(out, source, spec="another").digest != first.digest
    assert list(tmp_path.iterdir()) == [out]


def test_a_remote_source_is_not_read_again_to_look_for_changes(tmp_path: Path) -> None:
    source = corpus()
    make(tmp_path / "data", source, remote=True)
    make(tmp_path / "data", source, remote=True)
    assert len(source.reads) == 1


def test_damaged_data_is_made_anew(tmp_path: Path) -> None:
    out, source = tmp_path / "data", corpus()
    digest = make(out, source).digest
    tokens = out / "corpus" / "train.tokens"
    content = bytearray(tokens.read_bytes())
    content[100] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(DataError, match="differs from its digest"):
        Prepared.open(out, verify=True)
    assert make(out, source).digest == digest
    Prepared.open(out, verify=True)


def test_two_folders_of_one_text_have_one_digest(tmp_path: Path) -> None:
    assert make(tmp_path / "a", corpus()).digest == make(tmp_path / "b", corpus()).digest
    assert (
        make(tmp_path / "c", corpus(), tokenizer=TokenizerRecipe("bytes")).digest
        != make(tmp_path / "a", corpus()).digest
    )


def test_a_full_disk_leaves_the_old_data_and_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "data"
    digest = make(out, corpus()).digest

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(build_module, "write_token_file", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        make(out, corpus(61))
    assert list(tmp_path.iterdir()) == [out]
    assert Prepared.open(out, verify=True).digest == digest


def test_a_write_that_the_system_refuses_is_one_clear_error(tmp_path: Path) -> None:
    """A real refusal, by a limit on the size of files, in a process of its own."""
    (tmp_path / "text").mkdir()
    for number in range(40):
        (tmp_path / "text" / f"{number}.txt").write_text("some words " * 5000)
    program = (
        "import sys; from pathlib import Path; from bloomery.errors import BloomeryError;"
        "from bloomery.stages.prepare import parse_data, prepare;"
        f"corpus = {{'source': 'text', 'folder': {str(tmp_path / 'text')!r}}}\n"
        "try:\n"
        "    spec = parse_data({'tokenizer': {'kind': 'bytes'}, 'corpus': corpus})\n"
        f"    prepare(spec, Path({str(tmp_path / 'out' / 'data')!r}))\n"
        "except BloomeryError as error:\n    print(type(error).__name__, error)"
    )
    (tmp_path / "out").mkdir()
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
    )  # fmt: skip
    assert answer.stdout.startswith("ArtifactError")
    assert "cannot be written: File too large" in answer.stdout
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ArtifactError, match="Permission denied"):
        make(tmp_path / "data", corpus())


def test_an_interrupted_preparation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_module, "_tokenizer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "data", corpus())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f".data.{gone.pid}.tmp" / "corpus").mkdir(parents=True)
    (tmp_path / f".data.{os.getppid()}.tmp").mkdir()  # that one still runs
    make(tmp_path / "data", corpus())
    assert {file.name for file in tmp_path.iterdir()} == {"data", f".data.{os.getppid()}.tmp"}


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ArtifactError, match="holds other files"):
        make(tmp_path, corpus())
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_text_that_nothing_can_be_trained_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gave no documents"):
        make(tmp_path / "data", Words({}))
    val = next(str(n) for n in range(1000) if bucket_rule()(str(n)) == "val")
    with pytest.raises(DataError, match="other splits than train"):
        make(tmp_path / "data", Words({val: "text"}))


def test_two_documents_of_one_name_are_refused(tmp_path: Path) -> None:
    class Twice(Words):
        def documents(self) -> Iterator[Document]:
            yield Document("a", "one")
            yield Document("a", "two")

    with pytest.raises(DataError, match="two documents are called 'a'"):
        make(tmp_path / "data", Twice({}))


def test_groups_never_part(tmp_path: Path) -> None:
    class Grouped(Words):
        def documents(self) -> Iterator[Document]:
            for number in range(300):
                yield Document(str(number), "text", group=f"session {number % 30}")

    recipe = SetRecipe(Grouped({}), share_rule({"train": 0.5, "test": 0.5}), ("train", "test"))
    prepared = build(tmp_path / "data", {"corpus": recipe}, TokenizerRecipe("bytes"), {}, lambda **facts: None)
    sessions = [{int(name) % 30 for name in prepared.part(f"corpus:{split}").names} for split in ("train", "test")]
    assert not sessions[0] & sessions[1]
    assert len(sessions[0] | sessions[1]) == 30


def test_opening_what_is_no_prepared_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no prepared data here"):
        Prepared.open(tmp_path)
    prepared = make(tmp_path / "data", corpus())
    with pytest.raises(DataError, match="did you mean 'corpus'"):
        prepared.part("corpsu:train")
    with pytest.raises(DataError, match=r"no split 'test'"):
        prepared.part("corpus:test")
    manifest = json.loads((prepared.folder / MANIFEST).read_text())
    for change in ({"digest": "0" * 64}, {"format": 2}, {"sets": None}):
        (prepared.folder / MANIFEST).write_text(json.dumps({**manifest, **change}))
        with pytest.raises(DataError):
            Prepared.open(prepared.folder)
    (prepared.folder / MANIFEST).write_text("{")
    with pytest.raises(DataError, match="damaged"):
        Prepared.open(prepared.folder)


def test_files_of_another_folder_are_not_taken_for_ours(tmp_path: Path) -> None:
    ours, other = make(tmp_path / "a", corpus()), make(tmp_path / "b", corpus(61))
    for name in ("train.tokens", "train.tokens.json"):
        (ours.folder / "corpus" / name).write_bytes((other.folder / "corpus" / name).read_bytes())
    with pytest.raises(DataError, match="by the manifest"):
        ours.part("corpus:train")
