"""From a plan's `data` to batches: every source, every tokenizer, and the standard library as the quickstart has it."""

import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.data.mix import Batches
from bloomery.data.prepared import Prepared
from bloomery.data.split import bucket_rule
from bloomery.errors import DataError, Problems
from bloomery.stages.prepare import parse_data, planned_vocab, prepare, prepare_for_run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(120):
        (folder / f"{number}.txt").write_text(f"Text {number} tells of {number * 7} things and of more.\n" * 4)
    return folder


TOKENIZERS: list[dict[str, Any]] = [
    {"kind": "bytes"},
    {"kind": "bpe", "vocab": 300, "protect": ["digits"]},
    {"kind": "words", "vocab": 280},
    {"kind": "words", "vocab": 1000, "min_count": 20},
]


@pytest.mark.parametrize(
    "tokenizer", TOKENIZERS, ids=lambda each: f"{each['kind']} {each.get('min_count', '')}".strip()
)
def test_text_becomes_batches_and_batches_become_text(texts: Path, tmp_path: Path, tokenizer: dict[str, Any]) -> None:
    spec = parse_data({"tokenizer": tokenizer, "corpus": {"source": "text", "folder": str(texts)}})
    prepared = prepare(spec, tmp_path / "data")
    assert prepared.vocab == prepared.tokenizer.vocab == planned_vocab(spec)
    batches = Batches([(prepared.part("corpus"), 1.0)], batch=2, context=16, seed=0)
    for step in range(20):
        text = prepared.tokenizer.decode(batches.batch_at(step).tokens[0].tolist())
        everything = "".join(
            (texts / f"{n}.txt").read_text() for n in range(120) if bucket_rule()(f"{n}.txt") == "train"
        )
        assert any(line.strip() in everything for line in text.split("\n"))


def test_a_least_count_leaves_rare_words_to_their_letters(texts: Path, tmp_path: Path) -> None:
    """Each file's two numbers stand in four of its lines, and in few other files."""
    corpus = {"source": "text", "folder": str(texts)}
    spelled = {}
    for least in (1, 20):
        spec = parse_data({"tokenizer": {"kind": "words", "vocab": 1000, "min_count": least}, "corpus": corpus})
        tokens = prepare(spec, tmp_path / str(least)).part("corpus").tokens
        spelled[least] = int((tokens < 256).sum())
    assert spelled[1] == 0 < spelled[20]


def test_a_tokenizer_file_is_found_and_used(texts: Path, tmp_path: Path) -> None:
    corpus = {"source": "text", "folder": str(texts)}
    first = prepare(parse_data({"tokenizer": {"kind": "bpe", "vocab": 300}, "corpus": corpus}), tmp_path / "a")
    (tmp_path / "mine.json").write_bytes((first.folder / "tokenizer" / "tokenizer.json").read_bytes())
    spec = parse_data({"tokenizer": {"kind": "file", "path": "mine.json"}, "corpus": corpus})
    second = prepare(spec, tmp_path / "b", roots=[tmp_path])
    assert second.part("corpus").tokens.tolist() == first.part("corpus").tokens.tolist()
    assert planned_vocab(spec, [tmp_path]) == second.vocab


def test_paths_are_found_below_roots_and_the_data_folder(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = parse_data({"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": "texts"}})
    with pytest.raises(DataError) as caught:
        prepare(spec, tmp_path / "data")
    assert caught.value.where == "data.corpus.folder"
    assert not (tmp_path / "data").exists()
    prepare(spec, tmp_path / "a", roots=[tmp_path])
    monkeypatch.setenv("BLOOMERY_DATA", str(tmp_path))
    prepare(spec, tmp_path / "b")
    assert Prepared.open(tmp_path / "a").digest == Prepared.open(tmp_path / "b").digest
    assert str(tmp_path) not in (tmp_path / "a" / "manifest.json").read_text()


def test_records_are_split_by_the_field_that_is_named(tmp_path: Path) -> None:
    rows = [{"body": f"row {n}", "session": n % 20, "kind": "chat"} for n in range(200)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    talk = {
        "source": "jsonl", "file": str(tmp_path / "rows.jsonl"), "text": "body", "category": "kind",
        "split_by": "session", "split": {"train": "60%", "test": "40%"},
    }  # fmt: skip
    spec = parse_data({"tokenizer": {"kind": "bytes"}, "talk": talk})
    prepared = prepare(spec, tmp_path / "data")
    parts = [prepared.part(f"talk:{split}") for split in ("train", "test")]
    assert {category for part in parts for category in part.categories} == {"chat"}
    sessions = [{(int(name.split("#")[1]) - 1) % 20 for name in part.names} for part in parts]
    assert not sessions[0] & sessions[1]


def test_a_test_split_is_taken_out_of_train_where_the_plan_names_it(texts: Path, tmp_path: Path) -> None:
    data = {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": str(texts)}}
    plain = prepare(parse_data(data), tmp_path / "plain")
    with pytest.raises(DataError, match="no split 'test'"):
        plain.part("corpus:test")
    judged = prepare(parse_data(data).for_plan({"suites": {"text": {"data": "corpus:test"}}}), tmp_path / "judged")
    taken = set(judged.part("corpus:test").names)
    assert taken == {name for name in plain.part("corpus:train").names if bucket_rule(["test"])(name) == "test"}
    assert set(judged.part("corpus:train").names) == set(plain.part("corpus:train").names) - taken
    for split in ("dev", "val"):
        assert judged.part(f"corpus:{split}").digest == plain.part(f"corpus:{split}").digest


def test_the_engine_gets_facts_and_shares_the_folder(texts: Path, tmp_path: Path) -> None:
    data = {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": str(texts), "licence": "CC0"}}
    told: list[dict[str, Any]] = []
    facts, (folder, digest, vocab) = prepare_for_run(data, tmp_path / "runs", lambda **fact: told.append(fact))
    again, same = prepare_for_run(data, tmp_path / "runs", lambda **fact: None)
    assert (again, same) == (facts, (folder, digest, vocab))
    other, place = prepare_for_run(data, tmp_path / "runs", lambda **fact: None, plan={"of": "corpus:test"})
    assert place[0] != folder
    assert other["digest"] != digest
    prepared = Prepared.open(folder)
    assert (prepared.digest, prepared.vocab) == (digest, vocab) == (facts["digest"], 257)
    assert facts["documents"] == 120
    assert facts["tokens"] == sum(len(prepared.part(part)) for part in prepared.parts() if prepared.documents(part))
    assert facts["provenance"]["corpus"]["licence"] == "CC0"
    assert {"reading", "encoding"} <= {fact["doing"] for fact in told}
    json.dumps(facts, allow_nan=False)


def test_an_empty_part_says_what_to_do(tmp_path: Path) -> None:
    name = next(f"{n}.txt" for n in range(99) if bucket_rule()(f"{n}.txt") == "train")
    (tmp_path / name).write_text("one\n\ntwo\n\n" * 200)
    corpus = {"source": "text", "file": str(tmp_path / name)}
    whole = prepare(parse_data({"tokenizer": {"kind": "bytes"}, "corpus": corpus}), tmp_path / "whole")
    with pytest.raises(DataError, match="the part 'corpus:val' is empty") as caught:
        whole.part("corpus:val")
    assert "document: paragraph" in caught.value.hint
    cut = prepare(
        parse_data({"tokenizer": {"kind": "bytes"}, "corpus": {**corpus, "document": "paragraph"}}), tmp_path / "cut"
    )
    assert cut.part("corpus:val").documents > 0


@pytest.mark.parametrize(
    "wanted",
    [{"source": "text", "folder": "to come"}, {"source": "jsonl", "folder": "to come", "distil": {"shortest": 1}}],
    ids=["text", "examples"],
)
def test_text_that_is_still_to_come_is_no_mistake_where_the_plan_says_so(
    texts: Path, tmp_path: Path, wanted: dict[str, Any]
) -> None:
    wanted = {**wanted, "split": {"train": "100%"}}
    if wanted["source"] == "jsonl":
        wanted |= {"prompt": "prompt", "response": "response"}
    data: dict[str, Any] = {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": str(texts)}}
    with pytest.raises(DataError, match="does not exist"):
        prepare_for_run({**data, "news": wanted}, tmp_path / "refused", lambda **fact: None, roots=[tmp_path])
    data["news"] = {**wanted, "may_be_empty": True}

    def documents() -> int:
        _, (folder, _, _) = prepare_for_run(data, tmp_path / "runs", lambda **fact: None, roots=[tmp_path])
        return Prepared.open(folder).documents("news:train")

    assert documents() == 0
    (tmp_path / "to come").mkdir()
    assert documents() == 0
    (tmp_path / "to come" / "a.txt").write_text("ore\n")
    (tmp_path / "to come" / "a.jsonl").write_text('{"prompt": "What is it?", "response": "It is the ore."}\n')
    assert documents() == 1, "the same prepared data, grown"
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_nothing_is_made_of_a_set_that_is_still_empty(texts: Path, tmp_path: Path) -> None:
    """No tokenizer; and whoever wants to read it is told what is the matter."""
    corpus = {"source": "text", "folder": str(texts)}
    news = {"source": "text", "folder": "to come", "split": {"train": "100%"}, "may_be_empty": True}
    for kind in ("bpe", "words"):
        spec = parse_data({"tokenizer": {"kind": kind, "vocab": 300}, "news": news, "manuals": corpus})
        with pytest.raises(DataError, match="no documents in news:train") as caught:
            prepare(spec, tmp_path / kind)
        assert caught.value.where == "data.tokenizer.fit_on"
        assert not (tmp_path / kind).exists()
    prepared = prepare(parse_data({"tokenizer": {"kind": "bytes"}, "news": news, "manuals": corpus}), tmp_path / "none")
    with pytest.raises(DataError, match="the part 'news:train' is empty") as caught:
        prepared.part("news")
    assert "until something has come" in caught.value.hint


def test_a_pattern_that_is_none_is_no_set_that_is_empty(texts: Path, tmp_path: Path) -> None:
    corpus = {"source": "text", "folder": str(texts), "may_be_empty": True}
    for files in ("/*.txt", "a**"):
        spec = parse_data({"tokenizer": {"kind": "bytes"}, "corpus": {**corpus, "files": files}})
        with pytest.raises(DataError, match="no pattern of names") as caught:
            prepare(spec, tmp_path / "out")
        assert caught.value.where == files


def test_data_errors_do_not_hide_each_other() -> None:
    with pytest.raises(Problems):
        parse_data({"tokenizer": {"kind": "bpe"}, "corpus": {"source": "stdlb"}})


@pytest.mark.slow
def test_the_quickstart_corpus_is_as_measured(tmp_path: Path) -> None:
    data = {"tokenizer": {"kind": "bpe", "vocab": 2048}, "corpus": {"source": "stdlib"}}
    facts, (folder, _, vocab) = prepare_for_run(data, tmp_path, lambda **fact: None)
    assert vocab == 2048
    assert facts["provenance"]["corpus"]["overlap"]["val"]["share"] == pytest.approx(0.061, abs=0.02)
    val = Prepared.open(folder).part("corpus:val")
    assert 2.5 < val.byte_counts.sum() / len(val) < 4.0
    again, _ = prepare_for_run(data, tmp_path / "again", lambda **fact: None)
    assert again["digest"] == facts["digest"]
