"""Splits against their formula, shares against counting, and lines against sets."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.data.corpus import StandardLibrary
from bloomery.data.split import LineDeduplicator, bucket_rule, check_shares, line_keys, share_rule
from bloomery.errors import DataError


@given(st.text())
def test_the_default_rule_is_the_formula_of_the_specification(name: str) -> None:
    bucket = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 20
    assert bucket_rule()(name) == {0: "val", 1: "dev"}.get(bucket, "train")
    assert bucket_rule(["test"])(name) == {0: "val", 1: "dev", 2: "test"}.get(bucket, "train")


def test_the_standard_library_is_split_as_measured() -> None:
    rule = bucket_rule()
    sizes: dict[str, list[int]] = {"train": [], "dev": [], "val": []}
    for document in StandardLibrary().documents():
        sizes[rule(document.name)].append(len(document.text.encode()))
    assert 20 <= len(sizes["val"]) <= 24
    assert 375_000 < sum(sizes["val"]) < 425_000
    assert len(sizes["dev"]) > 10


def test_shares_are_met_on_average_and_do_not_depend_on_order_of_asking() -> None:
    rule = share_rule({"train": 0.8, "val": 0.08, "tune": 0.04, "test": 0.08})
    names = [f"document {number}" for number in range(20_000)]
    found = [rule(name) for name in names]
    assert found == [rule(name) for name in reversed(names)][::-1]
    assert found.count("train") / len(names) == pytest.approx(0.8, abs=0.01)
    assert found.count("tune") / len(names) == pytest.approx(0.04, abs=0.005)


def test_a_document_that_was_in_train_stays_there_when_train_grows() -> None:
    small, large = share_rule({"train": 0.5, "val": 0.5}), share_rule({"train": 0.7, "val": 0.3})
    names = [str(number) for number in range(2000)]
    assert all(large(name) == "train" for name in names if small(name) == "train")


@pytest.mark.parametrize(
    "shares",
    [{}, {"a": 0.5}, {"a": 0.5, "b": 0.50001}, {"a": 1.0, "b": 0.0}, {"a": 1.2, "b": -0.2}, {"a": float("nan")}],
)
def test_shares_that_are_no_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(DataError):
        check_shares(shares.items(), "split")


def test_thirds_are_shares() -> None:
    check_shares([("a", 1 / 3), ("b", 1 / 3), ("c", 1 / 3)], "split")


@given(st.lists(st.lists(st.sampled_from(["", "pass", "a line of more than twenty", "another long enough line"]))))
def test_deduplication_leaves_each_long_line_once_and_all_short_ones(texts: list[list[str]]) -> None:
    cleaner = LineDeduplicator()
    cleaned = "".join(cleaner.clean("".join(line + "\n" for line in lines)) for lines in texts).splitlines()
    before = [line for lines in texts for line in lines]
    for long in ("a line of more than twenty", "another long enough line"):
        assert cleaned.count(long) == min(1, before.count(long))
    assert [line for line in cleaned if len(line) < 20] == [line for line in before if len(line) < 20]
    assert cleaner.dropped == len(before) - len(cleaned)


def test_only_long_lines_count_as_copies_and_indentation_does_not() -> None:
    assert line_keys("short\n    a line of more than twenty\n") == line_keys("a line of more than twenty")
    assert line_keys("else:\n\n}\n") == []
