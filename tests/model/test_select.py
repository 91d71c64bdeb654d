"""Patterns and exact cover, against brute force over names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.errors import TrainingError
from bloomery.model.select import partition, prove_cover, select

NAMES = ["embedding", "blocks.0.attention.query.weight", "blocks.1.attention.query.weight", "norm.weight"]


def test_selects_in_model_order() -> None:
    assert select(NAMES, ["norm.*", "blocks.*.attention.*"]) == NAMES[1:]
    assert select(NAMES, []) == []


def test_a_pattern_without_a_match_is_refused() -> None:
    with pytest.raises(TrainingError, match=r"(?s)freeze: 'embeding' matches no parameter.*did you mean 'embedding'"):
        select(NAMES, ["embeding"], where="freeze")


def test_partition_covers_exactly() -> None:
    groups = {"table": ["embedding"], "matrices": ["blocks.*"], "gains": ["norm.*"]}
    assert partition(NAMES, groups) == {"table": NAMES[:1], "matrices": NAMES[1:3], "gains": NAMES[3:]}


def test_uncovered_and_doubled_are_named() -> None:
    with pytest.raises(TrainingError) as caught:
        partition(NAMES, {"a": ["blocks.*"], "b": ["*.weight"]})
    message = str(caught.value)
    assert "in no group: embedding" in message
    assert "in more than one group: blocks.0.attention.query.weight (in a and b)" in message
    with pytest.raises(TrainingError, match=r"no parameter of the model: head \(in a\)"):
        prove_cover(["x"], {"a": ["x", "head"]})


@given(st.lists(st.lists(st.sampled_from("abcd"), unique=True), max_size=4))
def test_cover_holds_exactly_when_every_name_has_one_group(groups: list[list[str]]) -> None:
    once = all(sum(name in members for members in groups) == 1 for name in "abcd")
    try:
        prove_cover("abcd", {str(index): members for index, members in enumerate(groups)})
        covered = True
    except TrainingError:
        covered = False
    assert covered == once
