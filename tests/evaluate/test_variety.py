"""Shares of n-grams, counted by hand."""

import pytest

from bloomery.evaluate.variety import distinct, repetition


def test_counted_by_hand() -> None:
    texts = ["iron ore iron ore iron", "iron ore", ""]
    assert distinct(texts, 1) == (2 / 7, 7)
    assert distinct(texts, 2) == (2 / 5, 5)
    assert repetition(texts, 2) == (2 / 5, 5), "between texts nothing is a repetition"
    assert distinct(texts, 9) == repetition(texts, 9) == (0.0, 0)
    assert repetition(["a b c d e f"], 4) == (0.0, 3)
    assert repetition(["a b c d " * 5], 4)[0] == pytest.approx(13 / 17)
