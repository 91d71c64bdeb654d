"""Retrieval against the formula written out, document by document."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.errors import DataError
from bloomery.systems.harmonic.tfidf import Retrieval


def slow_scores(texts: list[str], query: str) -> list[float]:
    """Dense vectors over the vocabulary, and the cosine of each with the query's."""
    documents = [text.lower().split() for text in texts]
    vocabulary = sorted({word for words in documents for word in words})

    def vector(words: list[str]) -> list[float]:
        found = []
        for word in vocabulary:
            holding = sum(word in each for each in documents)
            found.append(words.count(word) * (math.log((1 + len(documents)) / (1 + holding)) + 1))
        return found

    def cosine(one: list[float], other: list[float]) -> float:
        lengths = math.sqrt(sum(x * x for x in one)) * math.sqrt(sum(x * x for x in other))
        return sum(x * y for x, y in zip(one, other, strict=True)) / lengths if lengths else 0.0

    asked = vector(query.lower().split())
    return [cosine(vector(words), asked) for words in documents]


WORDS = st.lists(st.sampled_from(["ore", "Ore", "slag", "the", "a", "bloom", "7"]), max_size=8).map(" ".join)


@given(st.lists(WORDS, min_size=1, max_size=6), WORDS)
def test_what_is_found_is_what_a_slow_cosine_finds(texts: list[str], query: str) -> None:
    scores = slow_scores(texts, query)
    found = Retrieval.of(texts).best(query)
    assert scores[found] == pytest.approx(max(scores), abs=1e-12)


def test_rare_words_outweigh_frequent_ones_and_length_is_no_merit() -> None:
    texts = ["the the the the", "the slag", "the bloom " + "the ore " * 20, "the bloom"]
    retrieval = Retrieval.of(texts)
    assert retrieval.best("the bloom") == 3
    assert retrieval.best("slag of the furnace") == 1
    assert retrieval.best("nothing known") == 0
    with pytest.raises(DataError, match="there are none"):
        Retrieval.of([])
