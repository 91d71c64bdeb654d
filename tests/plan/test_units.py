"""Units: exact values, round trips, and refusals that say what was expected."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from bloomery.plan import units
from bloomery.plan.units import Bytes, Quantity, Seconds, Share, Tokens, UnitError


@pytest.mark.parametrize(
    ("parse", "written", "value"),
    [
        (units.parse_tokens, "300M tok", 300_000_000),
        (units.parse_tokens, "1M tok", 1_000_000),
        (units.parse_tokens, "64k tok", 65_536 - 1536),
        (units.parse_tokens, "1.6M tok", 1_600_000),
        (units.parse_tokens, "30B tok", 30 * 10**9),
        (units.parse_tokens, "12 tok", 12),
        (units.parse_tokens, 4096, 4096),
        (units.parse_count, "12M", 12_000_000),
        (units.parse_count, 1e18, 10**18),
        (units.parse_count, "1e18", 10**18),
        (units.parse_bytes, "2.5 GiB", 2_684_354_560),
        (units.parse_bytes, "4 GiB", 4 * 1024**3),
        (units.parse_bytes, "600 MiB", 629_145_600),
        (units.parse_bytes, "1.5 MB", 1_500_000),
        (units.parse_bytes, 42, 42),
        (units.parse_seconds, "250 ms", 0.25),
        (units.parse_seconds, "8 min", 480),
        (units.parse_seconds, "6 h", 21_600),
        (units.parse_seconds, "2 d", 172_800),
        (units.parse_money, "2 USD", 2),
        (units.parse_money, "0.35 USD", 0.35),
        (units.parse_share, "35%", 0.35),
        (units.parse_share, "0.1%", 0.001),
        (units.parse_share, 0, 0),
        (units.parse_share, "100%", 1),
        (units.parse_fraction, "1/1000", Fraction(1, 1000)),
        (units.parse_fraction, 1, 1),
        (units.parse_quantity, "-1%", -0.01),
        (units.parse_quantity, "256 MiB", 268_435_456),
        (units.parse_quantity, "12M", 12_000_000),
        (units.parse_quantity, "250 ms", 0.25),
        (units.parse_quantity, "2 USD", 2),
        (units.parse_quantity, 1.008, 1.008),
        (units.parse_quantity, "1e-3", 0.001),
    ],
)
def test_written_quantities_have_exact_values(parse, written, value) -> None:
    assert parse(written) == value
    assert isinstance(parse(written), Fraction) or type(parse(written)) is type(value)


@pytest.mark.parametrize(
    ("parse", "written", "said"),
    [
        (units.parse_bytes, "4 gib", "did you mean 'GiB'"),
        (units.parse_bytes, "4 h", "has the unit 'h'"),
        (units.parse_seconds, "8 minutes", "8 min"),
        (units.parse_seconds, "4 GiB", "a duration"),
        (units.parse_tokens, "1.5 tok", "not a whole number"),
        (units.parse_tokens, "-1 tok", "negative"),
        (units.parse_tokens, "1M words", "300k tok"),
        (units.parse_count, "many", "not a quantity"),
        (units.parse_share, "120%", "more than the whole"),
        (units.parse_share, "1/0", "divides by zero"),
        (units.parse_money, "2 EUR", "2 USD"),
        (units.parse_fraction, 0, "no tokens"),
        (units.parse_quantity, "5 B", "has the unit 'B'"),
        (units.parse_quantity, float("nan"), "not a finite number"),
        (units.parse_quantity, True, "found true"),
        (units.parse_quantity, None, "found nothing"),
        (units.parse_quantity, [1], "a list"),
        (units.parse_quantity, "", "not a quantity"),
        (units.parse_quantity, "1e999", "has the unit"),
    ],
)
def test_nonsense_is_refused_with_what_was_expected(parse, written, said) -> None:
    with pytest.raises(UnitError) as caught:
        parse(written)
    assert said in str(caught.value)
    assert caught.value.expected


@given(st.integers(min_value=0, max_value=10**18))
def test_counts_tokens_and_bytes_survive_being_written_and_read(value: int) -> None:
    assert units.parse_count(units.format_count(value)) == value
    assert units.parse_tokens(f"{units.format_count(value)} tok") == value
    assert units.parse_bytes(units.format_bytes(value)) == value


@given(st.integers(0, 10**9) | st.integers(0, 10**9).map(lambda value: value / 1000))
def test_durations_survive_being_written_and_read(value: float) -> None:
    assert units.parse_seconds(units.format_seconds(value)) == value


@given(st.decimals(min_value="0", max_value="99999", places=4), st.sampled_from(["k", "M", "B", "T"]))
def test_prefixes_multiply_exactly(number, prefix: str) -> None:
    exact = Fraction(number) * {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[prefix]
    if exact.denominator == 1:
        assert units.parse_count(f"{number}{prefix}") == exact
    else:
        with pytest.raises(UnitError):
            units.parse_count(f"{number}{prefix}")


def test_the_shortest_exact_form_is_written() -> None:
    assert units.format_count(300_000_000) == "300M"
    assert units.format_count(1_234_567) == "1234567"
    assert units.format_bytes(4 * 1024**3) == "4 GiB"
    assert units.format_seconds(480) == "8 min"
    assert units.format_seconds(0.25) == "0.25 s"


@pytest.mark.parametrize(
    ("written", "scaled"),
    [
        ("100M tok", "100000 tok"),
        ("1 tok", "1 tok"),
        ("0 tok", "0 tok"),
        ("4096", "4096"),
        ("256 MiB", "256 MiB"),
        ("a thousand tok", "a thousand tok"),
        ("30M", "30M"),
    ],
)
def test_fraction_scales_only_what_is_written_in_tok(written: str, scaled: str) -> None:
    assert units.scale_tokens(written, Fraction(1, 1000)) == scaled


@given(st.integers(1, 10**12), st.fractions(min_value="1/1000000", max_value=1))
def test_scaling_is_within_half_a_token(tokens: int, fraction: Fraction) -> None:
    scaled = units.parse_tokens(units.scale_tokens(f"{tokens} tok", fraction))
    assert scaled >= 1
    assert scaled == 1 or abs(scaled - tokens * fraction) <= Fraction(1, 2)


class Everything(BaseModel):
    tokens: Tokens = 0
    size: Bytes = 0
    wall: Seconds = 0
    share: Share = 0
    value: Quantity = 0


def test_the_annotated_types_parse_and_refuse() -> None:
    found = Everything.model_validate(
        {"tokens": "1M tok", "size": "1 KiB", "wall": "1 min", "share": "5%", "value": "2%"}
    )
    assert found == Everything(tokens=1_000_000, size=1024, wall=60, share=0.05, value=0.02)
    with pytest.raises(ValidationError) as caught:
        Everything.model_validate({"size": "5 min"})
    detail = caught.value.errors()[0]
    assert detail["type"] == "unit"
    assert "GiB" in detail["ctx"]["expected"]


def test_the_patterns_of_the_json_schema_agree_with_the_parsers() -> None:
    import re

    properties = Everything.model_json_schema()["properties"]
    pattern = {name: found["anyOf"][1]["pattern"] for name, found in properties.items()}
    right = {"tokens": "1.6M tok", "size": "2.5 GiB", "wall": "250 ms", "share": "35%", "value": "-1%"}
    wrong = {"tokens": "5 min", "size": "5 min", "wall": "5 GiB", "share": "5 s", "value": "five"}
    for name in pattern:
        assert re.search(pattern[name], right[name])
        assert not re.search(pattern[name], wrong[name])


@pytest.mark.parametrize(
    ("written", "unit"),
    [("4 GiB", "bytes"), ("8 min", "seconds"), ("2 USD", "money"), ("35%", "share"), ("1M tok", "tokens"), ("x", "")],
)
def test_the_kind_of_unit_is_told(written: str, unit: str) -> None:
    assert units.unit_written(written) == unit
