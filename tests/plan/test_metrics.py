"""Metric names: which are well formed, which match, and what a name promises."""

import pytest

from bloomery.plan import metrics


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("text/loss", True), ("exits/*/kl", True), ("gauntlet/all/accuracy", True), ("a/*", True),
        ("loss", False), ("*/loss", False), ("text/", False), ("Text/loss", False), ("text/l*ss", False), ("", False),
    ],
)  # fmt: skip
def test_names(name: str, good: bool) -> None:
    assert metrics.well_formed(name) is good


@pytest.mark.parametrize(
    ("name", "declared", "same"),
    [
        ("a/b", "a/b", True),
        ("a/*", "a/b", True),
        ("a/b/c", "a/*/c", True),
        ("a/*", "a/b/c", False),
        ("a/*/c", "a/b/d", False),
        ("a/b", "a/c", False),
    ],
)
def test_a_star_is_one_segment(name: str, declared: str, same: bool) -> None:
    assert metrics.matches(name, declared) is same
    assert metrics.matches(declared, name) is same


def test_derived_names_are_found_by_their_base() -> None:
    assert metrics.base("val/loss/min") == "val/loss"
    assert metrics.base("val/min") == "val/min"
    assert metrics.find("val/loss/tokens_to_reference", ["val/loss"]) == "val/loss"
    assert metrics.find("val/loss/mean", ["val/loss"]) is None


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("system/peak_memory_bytes", "bytes"), ("tally/bytes", "bytes"), ("memory/store_bytes/max", "bytes"),
        ("cost/wall_seconds", "seconds"), ("cost/money_usd", "money"), ("text/bits_per_byte", ""),
        ("train/tokens_per_second", ""), ("text/loss", ""),
    ],
)  # fmt: skip
def test_the_ending_is_the_unit(name: str, unit: str) -> None:
    assert metrics.unit(name) == unit
