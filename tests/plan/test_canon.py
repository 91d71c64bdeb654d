"""The canonical form: one text for one meaning, and refusal where there is none."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.errors import BloomeryError
from bloomery.plan.canon import canonical, changed_paths, digest
from bloomery.plan.schema import Budget, Condition

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


def shuffled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shuffled(value[key]) for key in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_key_order_does_not_matter_and_meaning_survives(value: Any) -> None:
    assert canonical(value) == canonical(shuffled(value))
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(canonical(value))) == canonical(value)


@given(values, values)
def test_different_values_have_different_forms(one: Any, other: Any) -> None:
    if canonical(one) == canonical(other):
        assert one == other


def test_numbers_are_written_one_way() -> None:
    assert canonical({"b": 1.0, "a": 1}) == '{"a":1,"b":1}'
    assert canonical([True, 1, 0.1, -0.0, 1e22]) == "[true,1,0.1,0,10000000000000000000000]"
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {1, 2}, object(), b"x", Path("/tmp"), 1j])
def test_what_has_no_form_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(BloomeryError) as caught:
        canonical({"a": [value]})
    assert caught.value.where == "a.0"


def test_models_are_written_by_alias_without_defaults() -> None:
    condition = Condition.model_validate({"metric": "a/b", "op": "<", "value": "50%", "as": "difference"})
    assert canonical(condition) == '{"as":"difference","metric":"a/b","op":"<","value":0.5}'
    assert canonical(Budget(wall=480.0)) == '{"wall":480}'
    assert canonical(Fraction(2, 1)) == "2"


def test_changes_are_found_where_they_are() -> None:
    before = {"a": 1, "stages": [{"id": "x", "k": {"v": 1}}, {"id": "y"}], "l": [1, 2], "flag": True}
    after = {"b": 1, "stages": [{"id": "y"}, {"id": "x", "k": {"v": 2}}], "l": [1, 3], "flag": 1}
    assert changed_paths(before, after) == ["a", "b", "flag", "l.1", "stages", "stages.x.k.v"]
    assert changed_paths(before, before) == []


@given(values, values)
def test_no_change_means_equal(one: Any, other: Any) -> None:
    one, other = json.loads(canonical(one)), json.loads(canonical(other))
    assert (changed_paths(one, other) == []) == (canonical(one) == canonical(other))
