"""N-gram overlap against sets of tuples, the slow and certain way, and on overlaps that were planted."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from bloomery.data import overlap as grams
from bloomery.data.corpus import Document
from bloomery.data.overlap import Overlap, Words, overlap, token_hashes
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import write_token_file

SENTENCES = some.lists(some.lists(some.sampled_from("abc"), max_size=12).map(" ".join), max_size=6)


def slowly(items: list[list[str]], training: list[list[str]], n: int) -> Overlap:
    known = {tuple(piece[i : i + n]) for piece in training for i in range(len(piece) - n + 1)}
    own = [[tuple(item[i : i + n]) for i in range(len(item) - n + 1)] for item in items]
    return Overlap(tuple(map(len, own)), tuple(sum(gram in known for gram in item) for item in own))


@given(SENTENCES, SENTENCES, some.integers(1, 5))
def test_words_against_sets(items: list[str], training: list[str], n: int) -> None:
    words = Words()
    found = overlap([words(text) for text in items], (words(text) for text in training), n)
    assert found == slowly([text.split() for text in items], [text.split() for text in training], n)


def test_words_are_normalised() -> None:
    words = Words()
    texts = "The FURNACE, makes: iron!", "the furnace makes iron"
    assert (words(texts[0]) == words(texts[1])).all()
    assert re.findall(r"\w+", texts[0].casefold()) == texts[1].split()
    assert len(set(words("iron ore iron").tolist())) == 2


@pytest.mark.parametrize("at_once", [3, 7, 64, 10_000])
def test_a_stream_of_tokens_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choice("ab") for _ in range(draw.randint(0, 40))) for _ in range(30)]
    file = write_token_file(tmp_path / "x.tokens", [Document(text, text) for text in texts], BytesTokenizer())
    items = ["".join(draw.choice("ab") for _ in range(20)) for _ in range(20)]
    monkeypatch.setattr(grams, "TOKENS_AT_ONCE", at_once)
    hashed = [token_hashes(np.frombuffer(item.encode(), dtype=np.uint8)) for item in items]
    for n in (1, 5, 8):
        expected = slowly([list(item) for item in items], [list(text) for text in texts], n)
        assert overlap(hashed, grams.stream_of_tokens(file, n), n) == expected
        assert overlap(hashed, grams.documents_as_tokens(file), n) == expected


def test_what_was_planted_is_found_and_nothing_else() -> None:
    draw = random.Random(2)
    fresh = [" ".join(f"w{draw.randrange(10**6)}" for _ in range(100)) for _ in range(20)]
    training = [" ".join(f"t{draw.randrange(10**6)}" for _ in range(500)) for _ in range(20)]
    for number, length in ((3, 12), (5, 13), (8, 40), (11, 100)):
        taken = fresh[number].split()[:length]
        training[number] += " " + " ".join(taken).upper() + "."
    words = Words()
    found = overlap([words(text) for text in fresh], map(words, training), 13)
    expected = [0] * 20
    expected[5], expected[8], expected[11] = 1, 28, 88
    assert list(found.found) == expected
    assert set(found.grams) == {88}


def test_no_chance_hit_among_a_billion_pairs() -> None:
    """30,000 x 30,000 different n-grams: one false hit is expected in twenty thousand million such tests."""
    ids = np.arange(60_000, dtype=np.uint32)
    found = overlap([token_hashes(ids[:30_000])], [token_hashes(ids[30_000:])], 13)
    assert found.found == (0,)


def test_short_items_say_nothing() -> None:
    words = Words()
    found = overlap([words("a b"), words(""), words("a b c")], [words("a b c")], 3)
    assert (found.grams, found.found, found.judged) == ((0, 0, 1), (0, 0, 1), (2,))
    assert overlap([], [words("a")], 2) == Overlap((), ())
