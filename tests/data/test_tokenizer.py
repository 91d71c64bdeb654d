"""Tokenizers: lossless on any text, the same every time, and refused when damaged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.data.tokenizer import (
    END_OF_DOCUMENT,
    BytesTokenizer,
    FastTokenizer,
    Tokenizer,
    load_tokenizer,
    train_bpe,
    train_words,
)
from bloomery.errors import DataError

TEXTS = [
    "def add(first, second):\n    return first + second\n\n",
    'The quick brown fox jumps over the lazy dog. {"answer": 1234567890, "list": [1, 2]}\n',
    "Größe, naïve, 東京, 😀 — and the quick end.\n",
] * 3
ALL: dict[str, Tokenizer] = {
    "bytes": BytesTokenizer(),
    "bpe": train_bpe(TEXTS, 400),
    "protected": train_bpe(TEXTS, 400, protect=["digits", "json_punctuation"]),
    "words": train_words(TEXTS, 300),
}
tokenizers = pytest.mark.parametrize("tokenizer", ALL.values(), ids=ALL)
ANY_TEXT = st.text(st.characters(codec="utf-8")) | st.text("the quick<|end_of_document|> \n\t0é東\u0301\r")


@tokenizers
@given(text=ANY_TEXT)
@settings(max_examples=150, deadline=None)
def test_decoding_what_was_encoded_gives_the_text(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end_of_document not in ids
    assert ids.size == 0 or int(ids.max()) < tokenizer.vocab


@tokenizers
def test_many_are_encoded_as_one_by_one(tokenizer: Tokenizer) -> None:
    texts = [*TEXTS, "", END_OF_DOCUMENT]
    assert [ids.tolist() for ids in tokenizer.encode_many(texts)] == [tokenizer.encode(text).tolist() for text in texts]


@tokenizers
def test_a_document_end_decodes_to_nothing(tokenizer: Tokenizer) -> None:
    ids = [*tokenizer.encode("one").tolist(), tokenizer.end_of_document, *tokenizer.encode("two").tolist()]
    assert tokenizer.decode(ids) == "onetwo"


@tokenizers
def test_saved_and_loaded_it_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert (loaded.kind, loaded.vocab, loaded.digest, loaded.end_of_document) == (
        tokenizer.kind, tokenizer.vocab, tokenizer.digest, tokenizer.end_of_document,
    )  # fmt: skip
    text = "".join(TEXTS)
    assert loaded.encode(text).tolist() == tokenizer.encode(text).tolist()
    assert not any(file.suffix in (".pkl", ".pickle", ".pt") for file in tmp_path.iterdir())


def test_training_twice_in_two_processes_gives_one_digest() -> None:
    program = (
        "import json, sys; from bloomery.data.tokenizer import train_bpe, train_words; texts = json.load(sys.stdin);"
        "print(train_bpe(texts, 400).digest, train_words(texts, 300).digest)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], input=json.dumps(TEXTS), capture_output=True, text=True, check=True
    )
    assert answer.stdout.split() == [ALL["bpe"].digest, ALL["words"].digest]


def test_digests_differ_where_tokenizers_do() -> None:
    others = [train_bpe([*TEXTS, "another another another"], 400), train_bpe(TEXTS, 401), train_words(TEXTS, 299)]
    digests = [tokenizer.digest for tokenizer in [*ALL.values(), *others]]
    assert len(set(digests)) == len(digests)


def test_bpe_merges_and_its_vocab_is_what_was_asked_for() -> None:
    text = "".join(TEXTS)
    assert len(ALL["bpe"].encode(text)) < 0.6 * len(text.encode())
    assert train_bpe(["aa"], 1000).vocab == 1000
    assert train_bpe([], 257).encode("é").size == 2


def test_protected_characters_stand_alone() -> None:
    numbers = ["1234567890 " * 50]
    assert len(train_bpe(numbers, 300).encode("1234")) < 4
    protected = train_bpe(numbers, 300, protect=["digits"])
    assert len(protected.encode("1234")) == 4
    ids = ALL["protected"].encode('{"a":1}').tolist()
    assert [ALL["protected"].decode([i]) for i in ids] == ["{", '"', "a", '"', ":", "1", "}"]


def test_words_are_whole_and_the_unknown_falls_back_to_bytes() -> None:
    words = train_words(["the cat the dog the"], 261)
    assert len(words.encode("the the")) == 2
    assert words.encode("zé").tolist() == list("zé".encode())


def test_words_below_the_least_count_are_spelled() -> None:
    texts = ["the cat the dog", " the cat sat", "dog"]  # " cat" twice, and "dog" is not " dog"
    words = train_words(texts, 300, min_count=2)
    assert words.words == (" cat", " the")
    assert words.encode(" the sat").tolist() == [258, *b" sat"]
    assert words.decode(words.encode(texts[1])) == texts[1]
    assert train_words(texts, 300, min_count=1).digest == train_words(texts, 300).digest
    assert train_words(texts, 258, min_count=2).words == (" cat",)


def test_a_tokenizer_file_is_taken_as_it_is(tmp_path: Path) -> None:
    ALL["bpe"].save(tmp_path)
    (tmp_path / "bloomery_tokenizer.json").unlink()
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        foreign = load_tokenizer(path)
        assert foreign.kind == "file"
        assert foreign.encode("the quick").tolist() == ALL["bpe"].encode("the quick").tolist()
    foreign.save(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").digest == foreign.digest


def test_a_tokenizer_file_needs_a_token_that_ends_documents(tmp_path: Path) -> None:
    ALL["bpe"].save(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text().replace(END_OF_DOCUMENT, "<|stop|>"))
    (tmp_path / "other.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="no token that ends a document"):
        load_tokenizer(tmp_path / "other.json")
    assert load_tokenizer(tmp_path / "other.json", end="<|stop|>").end_of_document == 0
    with pytest.raises(DataError, match="no token '<stop>'"):
        load_tokenizer(tmp_path / "other.json", end="<stop>")


@pytest.mark.parametrize("damage", ["cut", "changed", "empty card", "no model"])
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, damage: str) -> None:
    ALL["bpe"].save(tmp_path)
    model, card = tmp_path / "tokenizer.json", tmp_path / "bloomery_tokenizer.json"
    if damage == "cut":
        model.write_text(model.read_text()[:-100])
    elif damage == "changed":
        model.write_text(model.read_text().replace('"add_prefix_space":false', '"add_prefix_space":true'))
        model.write_text(model.read_text().replace('"add_prefix_space": false', '"add_prefix_space": true'))
    elif damage == "empty card":
        card.write_text("{}")
    else:
        model.unlink()
    with pytest.raises(DataError):
        load_tokenizer(tmp_path)


def test_impossible_vocabularies_and_foreign_files_are_refused() -> None:
    with pytest.raises(DataError, match="at least 257"):
        train_bpe([], 256)
    with pytest.raises(DataError, match="at least 258"):
        train_words([], 257)
    with pytest.raises(DataError, match="did you mean 'digits'"):
        train_bpe([], 300, protect=["digit"])
    with pytest.raises(DataError, match="not a tokenizer"):
        FastTokenizer("{}", kind="file")
