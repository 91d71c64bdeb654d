"""Conditions, rules and controls in words."""

from typing import Any

import pytest

from bloomery.plan.schema import AnyOf, Condition, Control, Rule, StageSpec
from bloomery.plan.words import control_words, plain, rule_words, words


def condition(**keys: Any) -> Condition:
    return Condition.model_validate({"metric": "text/loss", "op": "<=", "value": 0, **keys})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"relative_to": "control", "as": "difference"},
            "text/loss, candidate minus control, <= 0 (mean over seeds)",
        ),
        ({"relative_to": "control", "value": 1.0}, "text/loss, candidate divided by control, <= 1 (mean over seeds)"),
        ({"value": 4.5}, "text/loss <= 4.5 (mean over seeds)"),
        (
            {"confidence": "95%", "aggregate": "worst"},
            "text/loss <= 0 (worst seed, one-sided 95% bound)",
        ),
        (
            {"metric": "memory/store_bytes/max", "value": "256 MiB"},
            "memory/store_bytes/max <= 256 MiB (mean over seeds)",
        ),
        ({"metric": "cost/wall_seconds", "value": "8 min"}, "cost/wall_seconds <= 8 min (mean over seeds)"),
        ({"metric": "cost/money_usd", "value": "2 USD"}, "cost/money_usd <= 2 USD (mean over seeds)"),
        (
            {"of": "control", "value": 1, "after": "10%"},
            "text/loss, control, <= 1 (mean over seeds, after 10% of the stage)",
        ),
    ],
)
def test_a_condition_is_a_sentence(keys: dict[str, Any], said: str) -> None:
    assert words(condition(**keys)) == said


def test_alternatives_are_joined() -> None:
    either = AnyOf(any=(condition(value=1), condition(value=2)))
    assert words(either) == "any of: text/loss <= 1 (mean over seeds); or text/loss <= 2 (mean over seeds)"


def rule(**keys: Any) -> Rule:
    return Rule.model_validate({"name": "plateau", "because": "too slow", **keys})


def test_rules_say_when_what_and_why() -> None:
    stage = StageSpec(id="pretrain", kind="pretrain")
    found = rule_words(stage, rule(set={"optimizer.lr": 0.04}, when=[condition(value=1)], **{"from": "checkpoint"}))
    assert found == (
        "pretrain, plateau: if text/loss <= 1 (mean over seeds), "
        "go on from the checkpoint with optimizer.lr = 0.04 (too slow)"
    )
    assert rule_words(stage, rule(then="stop")) == "pretrain, plateau: stop (too slow)"
    undecided = rule_words(stage, rule(then="go_on", verdict=["inconclusive"]))
    assert undecided == "pretrain, plateau: if the verdict is inconclusive, go on, the gate stays failed (too slow)"


def test_the_control_is_described() -> None:
    assert control_words(None) == "none"
    found = control_words(Control(set={"optimizer.lr": 0.06}))
    assert found == "dense twin with as many stored parameters, within 2%, on the same tokens; optimizer.lr = 0.06"


def test_values_are_short() -> None:
    assert plain({"a": [1, 2.0, True, None, "x"]}) == "{a: [1, 2, true, null, x]}"
