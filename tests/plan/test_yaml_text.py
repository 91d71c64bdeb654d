"""YAML 1.2: what is read, where it stands, and what is refused."""

import warnings
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.errors import PlanError, Problems
from bloomery.plan.yaml_text import MAX_DEPTH, MAX_NODES, Mark, decode, parse


def test_yaml_one_point_two_is_what_is_read() -> None:
    text = "rate: 3e-4\nno: no\nyes: true\noctal: 0o17\nplain: 017\nhex: 0x1f\nnothing:\nday: 2001-01-01\nbig: 1_000\n"
    assert parse(text, "f").value == {
        "rate": 3e-4, "no": "no", "yes": True, "octal": 15, "plain": 17, "hex": 31, "nothing": None,
        "day": "2001-01-01", "big": 1000,
    }  # fmt: skip


def test_every_key_and_item_has_its_mark() -> None:
    marks = parse("a: 1\nb:\n  - {c: 2}\n  - 3\n", "f").marks
    assert marks[("a",)] == Mark("f", 1, 1)
    assert marks[("b",)] == Mark("f", 2, 1)
    assert marks[("b", 0)] == Mark("f", 3, 5)
    assert marks[("b", 0, "c")] == Mark("f", 3, 6)
    assert marks[("b", 1)] == Mark("f", 4, 5)
    assert str(marks[("b", 1)]) == "f:4:5"


def test_anchors_are_copied_never_shared() -> None:
    value = parse("a: &x {k: [1]}\nb: *x\n", "f").value
    assert value["a"] == value["b"]
    assert value["a"] is not value["b"]
    assert value["a"]["k"] is not value["b"]["k"]


def test_all_mistakes_at_once() -> None:
    with pytest.raises(Problems) as caught:
        parse("a: 1\na: 2\nb: {<<: {}}\nc: !!python/name:os.system x\n1: d\ne: .inf\n", "f")
    assert [problem.where.split(":")[1] for problem in caught.value.problems] == ["2", "3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &x [*x]", "too many levels"),
        ("%YAML 1.1\n---\na: no\n", "directive"),
        ("a: 1\n---\nb: 2\n", "second document"),
        ("a:\n\t- 1\n", "a tab"),
        ("a: *nowhere\n", "undefined alias"),
        ("? [1, 2]\n: x\n", "not text"),
        ("true: x\n", "not text"),
        ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "too many levels"),
        ("a: " + "[" * 1000, "YAML|deep"),
        ("a: 0x\n", ""),
        ("a: " + "9" * 5000, "is no number"),
        ("a: \x00", "not YAML"),
    ],
)
def test_refusals_are_clear(text: str, said: str) -> None:
    if not said:
        assert parse(text, "f").value == {"a": "0x"}
        return
    with pytest.raises(Problems) as caught:
        parse(text, "f")
    assert len(caught.value.problems) == 1
    assert any(word in str(caught.value) for word in said.split("|")), str(caught.value)
    assert str(caught.value).startswith("f")


def test_aliases_cannot_blow_up() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(Problems) as caught:
        parse("\n".join(lines), "f")
    assert "too many values" in str(caught.value)
    assert str(MAX_NODES) in str(caught.value)


def test_bytes_that_are_no_text_are_refused() -> None:
    assert decode("\ufeffa: é".encode(), "f") == "a: é"
    with pytest.raises(PlanError, match="UTF-8") as caught:
        decode(b"a: 1\nb: \xff\n", "f")
    assert caught.value.where == "f:2"
    with pytest.raises(PlanError, match="bytes"):
        decode(b"#" * 2_000_000, "f")


@given(st.text(max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with suppress(Problems):
            parse(text, "f")
