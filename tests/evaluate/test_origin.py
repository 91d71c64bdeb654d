"""Passages put to their sources, against a classifier written out in loops, and where nothing is to be told."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from bloomery.data.corpus import Document
from bloomery.data.tokenizer import BytesTokenizer
from bloomery.data.tokens import TokenFile, write_token_file
from bloomery.errors import DataError
from bloomery.evaluate.origin import bayes, passages, told


class Letters:
    """Its features are how often it saw each of `own`."""

    vocab = 257

    def __init__(self, own: str) -> None:
        self.own = own

    def logprobs(self, tokens: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    def features(self, tokens: np.ndarray) -> np.ndarray:
        return np.array([(tokens == ord(one)).sum() for one in self.own], dtype=np.float64)


@pytest.fixture
def books(tmp_path: Path) -> TokenFile:
    """Two books of two chapters that differ in one letter of three, and one that is too short."""
    draw = np.random.default_rng(0)
    shares = {"one.txt": [0.5, 0.3, 0.2], "two.txt": [0.2, 0.3, 0.5]}
    documents = [
        Document(f"{name}#{chapter}", "".join(draw.choice(list("abc"), p=p, size=640)), "x")
        for chapter in range(2)
        for name, p in shares.items()
    ]
    documents.append(Document("short.txt", "abc", "y"))
    return write_token_file(tmp_path / "books.tokens", documents, BytesTokenizer())


def slow(fitted: list[list[float]], labels: list[int], asked: list[float], sources: int) -> int:
    best, found = -math.inf, -1
    for source in range(sources):
        sums: Counter[int] = Counter()
        for row, label in zip(fitted, labels, strict=True):
            if label == source:
                for place, value in enumerate(row):
                    sums[place] += value  # pyright: ignore[reportArgumentType]
        total = sum(sums.values()) + len(asked)
        score = sum(x * math.log((sums[place] + 1) / total) for place, x in enumerate(asked))
        if score > best:
            best, found = score, source
    return found


def test_the_classifier_is_naive_bayes() -> None:
    draw = np.random.default_rng(1)
    fitted, labels = draw.integers(0, 9, (30, 5)).astype(float), np.arange(30) % 3
    asked = draw.integers(0, 9, (40, 5)).astype(float)
    found = bayes(fitted, labels, asked, 3)
    assert found.tolist() == [slow(fitted.tolist(), labels.tolist(), row, 3) for row in asked.tolist()]
    assert len(set(found.tolist())) == 3


def test_passages_are_as_many_of_each_source_and_those_that_are_judged_come_later(books: TokenFile) -> None:
    found = passages(books, "file", 64, 15)
    assert found.sources == ("one.txt", "two.txt")
    assert np.bincount(found.labels).tolist() == [15, 15]
    assert found.judged.tolist() == 2 * (7 * [False] + 8 * [True])
    text = np.concatenate([books.document(0), books.document(2)])
    assert np.concatenate(found.tokens[:15]).tolist() == text[: 15 * 64].tolist()


def test_features_that_tell_are_found_to_tell_and_shuffled_labels_are_not(books: TokenFile) -> None:
    found = passages(books, "file", 64, 20)
    good = told(Letters("abc"), found, "key")
    assert good.own.tolist() == good.unigram.tolist()
    assert good.own.mean() > 0.8
    assert 0.4 < good.shuffled.mean() < 0.6
    assert len(set(good.shuffled.tolist())) > 1
    assert told(Letters("b"), found, "key").own.mean() == 0.5
    assert good.sources == 2


def test_fewer_than_two_sources_are_refused(books: TokenFile) -> None:
    with pytest.raises(DataError, match="two sources"):
        passages(books, "category", 64, 20)
    with pytest.raises(DataError, match="0 file of that length"):
        passages(books, "file", 5000, 20)
