"""Patches: never in place, against a brute-force reference, and refused where a path leads nowhere."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.errors import PlanError
from bloomery.plan.patch import apply_patch, patched, patched_stage, set_path

keys = st.sampled_from(["a", "b", "c"])
leaves = st.integers(0, 9) | st.none() | st.lists(st.integers(0, 3), max_size=2)
configs = st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=8)
paths = st.lists(keys, min_size=1, max_size=4).map(".".join)


def look_up(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config[key]
    return config


def leaves_of(config: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(config, dict) or not config:
        return {path: config}
    return {key: value for name, inner in config.items() for key, value in leaves_of(inner, (*path, name)).items()}


@given(st.dictionaries(keys, configs, max_size=3), paths, leaves)
def test_a_patch_sets_its_path_and_touches_nothing_else(config: dict[str, Any], path: str, value: Any) -> None:
    before = copy.deepcopy(config)
    try:
        after = patched(config, {path: value})
    except PlanError:
        after = None
    assert config == before
    if after is None:
        return
    assert look_up(after, path) == value
    target = tuple(path.split("."))
    for leaf, old in leaves_of(before).items():
        if leaf != target[: len(leaf)] and target != leaf[: len(target)]:
            assert look_up(after, ".".join(leaf)) == old


@given(st.dictionaries(keys, configs, max_size=3), paths, leaves)
def test_the_same_patch_twice_is_the_patch_once(config: dict[str, Any], path: str, value: Any) -> None:
    try:
        once = patched(config, {path: value})
    except PlanError:
        return
    assert patched(once, {path: value}) == once


def test_values_are_copied() -> None:
    value = [1]
    after = patched({}, {"a": value})
    value.append(2)
    assert after == {"a": [1]}


def plan() -> dict[str, Any]:
    loop = {"id": "loop", "repeat": 2, "stages": [{"id": "inner", "kind": "k", "config": {"x": 1}}]}
    return {"stages": [{"id": "one", "kind": "k", "config": {"x": {"y": 1}}}, loop]}


def test_rules_reach_their_own_stage_and_others() -> None:
    raw = plan()
    after = apply_patch(raw, "one", {"x.y": 2, "stages.inner.config.x": 3, "stages.one.seeds": [4]})
    assert after["stages"][0] == {"id": "one", "kind": "k", "config": {"x": {"y": 2}}, "seeds": [4]}
    assert after["stages"][1]["stages"][0]["config"] == {"x": 3}
    assert raw == plan()


@pytest.mark.parametrize(
    "path", ["stages.one.kind", "stages.one", "stages.one.config", "stages.none.config.x", "x.y.z", "."]
)
def test_rules_reach_nothing_else(path: str) -> None:
    with pytest.raises(PlanError):
        apply_patch(plan(), "one", {path: 1})


def test_a_path_says_whom_it_reaches() -> None:
    assert patched_stage("one", "optimizer.lr") == ("one", "config", "optimizer.lr")
    assert patched_stage("one", "stages.two.config.a.b") == ("two", "config", "a.b")
    assert patched_stage("one", "stages.two.seeds") == ("two", "seeds", "")


def test_the_whole_plan_is_set_by_path() -> None:
    raw: dict[str, Any] = {**plan(), "control": {"set": {"optimizer.lr": 1}}}
    assert set_path(raw, "control.set.optimizer.lr", 2) == ("control", "set", "optimizer.lr")
    assert raw["control"]["set"] == {"optimizer.lr": 2}
    assert set_path(raw, "stages.inner.config.x", 5) == ("stages", 1, "stages", 0, "config", "x")
    assert raw["stages"][1]["stages"][0]["config"]["x"] == 5
    assert set_path(raw, "budget.wall", "1 h") == ("budget", "wall")
    assert raw["budget"] == {"wall": "1 h"}
