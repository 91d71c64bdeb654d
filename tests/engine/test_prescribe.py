"""The next attempt: the first rule that matches and is not used up; else not promoted; else stop."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bloomery.engine.gate import judge
from bloomery.engine.prescribe import Decision, GoOn, NotPromoted, Retry, Stop, next_attempt
from bloomery.engine.verdict import Verdict
from bloomery.measure import Emitted, Measurement
from bloomery.plan.schema import StageSpec

LOSS = Measurement("val/loss", 4.5, seed=0)
PLATEAU = Measurement("train/plateau", 1.0, seed=0)
RETRY = {"because": "b", "set": {"lr": 1}}


def stage(*rules: dict[str, Any], **keys: Any) -> StageSpec:
    gate = [{"metric": "val/loss", "op": "<", "value": 4.0}]
    return StageSpec.model_validate({"id": "pretrain", "kind": "pretrain", "gate": gate, "on_fail": rules, **keys})


def decide(spec: StageSpec, *evidence: Measurement, used: dict[str, int] | None = None) -> Decision:
    declared = {"val/loss": Emitted("", "lower"), "train/plateau": Emitted()}
    verdict = judge(spec.gate, evidence, declared)
    return next_attempt(spec, verdict, evidence, used or {}, declared)


def test_a_passed_gate_goes_on_whatever_the_rules_say() -> None:
    decision = decide(stage({"name": "r", "then": "stop", "because": "b"}), Measurement("val/loss", 3.0, seed=0))
    assert decision == GoOn("the gate passed")
    assert next_attempt(stage(gate=[]), Verdict("pass"), (), {}) == GoOn("there is no gate")


def test_the_first_rule_that_applies_is_taken() -> None:
    when = [{"metric": "train/plateau", "op": ">=", "value": 1}]
    spec = stage({"name": "plateau", "when": when, **RETRY}, {"name": "stuck", **RETRY, "because": "second"})
    for evidence, name in (((LOSS, PLATEAU), "plateau"), ((LOSS,), "stuck")):
        decision = decide(spec, *evidence)
        assert isinstance(decision, Retry)
        assert (decision.rule.name, decision.reason, decision.action) == (name, decision.rule.because, "retry")


def test_a_when_that_cannot_be_judged_does_not_hold_and_is_said() -> None:
    for op, measured in ((">=", None), ("!=", math.nan), ("<", math.inf)):
        spec = stage({"name": "plateau", "when": [{"metric": "train/plateau", "op": op, "value": 1}], **RETRY})
        evidence = [LOSS] if measured is None else [LOSS, Measurement("train/plateau", measured, seed=0)]
        decision = decide(spec, *evidence)
        assert isinstance(decision, Stop)
        assert "rule 'plateau' does not apply" in decision.reason
        assert "train/plateau" in decision.reason
    unsure = [{"metric": "train/plateau", "op": ">", "value": 0, "confidence": "95%"}]
    decision = decide(stage({"name": "plateau", "when": unsure, **RETRY}), LOSS, PLATEAU)
    assert isinstance(decision, Stop)
    assert "no interval" in decision.reason


def test_rules_are_used_up() -> None:
    spec = stage({"name": "a", **RETRY, "from": "checkpoint", "max_attempts": 2}, {"name": "b", **RETRY})
    found: list[str] = []
    used: dict[str, int] = {}
    for _ in range(10):
        decision = decide(spec, LOSS, used=used)
        if not isinstance(decision, Retry):
            break
        found.append(decision.rule.name)
        used[decision.rule.name] = used.get(decision.rule.name, 0) + 1
    assert found == ["a", "a", "b"]
    assert isinstance(decision, Stop)
    assert "rule 'a' is used up (2 of 2); rule 'b' is used up (1 of 1)" in decision.reason


def test_rules_may_be_for_some_verdicts_only() -> None:
    undecided = {"name": "more seeds", "verdict": ["inconclusive"], **RETRY}
    other = {"name": "other", **RETRY}
    spec = stage(undecided, other)
    for status, name in (("inconclusive", "more seeds"), ("fail", "other"), ("missing", "other")):
        decision = next_attempt(spec, Verdict(status), (), {})  # type: ignore[arg-type]
        assert isinstance(decision, Retry)
        assert decision.rule.name == name
    alone = next_attempt(stage(undecided), Verdict("fail"), (), {})
    assert alone == Stop("the gate's verdict is fail; rule 'more seeds' is for a verdict of inconclusive")


def test_then_stop_and_then_go_on() -> None:
    no_go = {"name": "no-go", "then": "stop", "because": "register again"}
    decision = decide(stage(no_go, {"name": "later", **RETRY}, optional=True), LOSS)
    assert isinstance(decision, Stop)
    assert (decision.reason, decision.action) == ("register again", "stop")
    assert decision.rule is not None
    assert decision.rule.name == "no-go"
    going = decide(stage({"name": "unproven", "then": "go_on", "because": "worth seeing"}), LOSS, used={"unproven": 3})
    assert isinstance(going, GoOn)
    assert (going.reason, going.action) == ("worth seeing", "go_on")


def test_an_optional_stage_is_not_promoted_and_another_stops() -> None:
    assert decide(stage(), LOSS) == Stop("the gate's verdict is fail; the stage has no remedies")
    assert decide(stage(optional=True), LOSS) == NotPromoted(
        "the gate's verdict is fail; the stage has no remedies; the stage is optional"
    )
    broken = next_attempt(stage(), Verdict("fail", reason="loss is nan"), (), {})
    assert broken.reason.startswith("the gate's verdict is fail (loss is nan);")


@given(
    st.lists(
        st.fixed_dictionaries(
            {"because": st.just("b"), "set": st.just({"lr": 1})},
            optional={
                "then": st.sampled_from(["stop", "go_on"]),
                "max_attempts": st.integers(1, 3),
                "verdict": st.lists(st.sampled_from(["fail", "missing", "inconclusive"]), min_size=1, unique=True),
            },
        ),
        max_size=5,
    ),
    st.booleans(),
    st.sampled_from(["fail", "missing", "inconclusive"]),
)
def test_every_ladder_of_rules_ends(rules: list[dict[str, Any]], optional: bool, status: Any) -> None:
    """Brute force: apply until something else than a retry comes; that is after at most the sum of the counts."""
    spec = stage(*({"name": f"r{i}", **rule} for i, rule in enumerate(rules)), optional=optional)
    used: dict[str, int] = {}
    retries = 0
    while isinstance(decision := next_attempt(spec, Verdict(status), (), used), Retry):
        used[decision.rule.name] = used.get(decision.rule.name, 0) + 1
        retries += 1
        assert used[decision.rule.name] <= decision.rule.max_attempts
    assert retries <= sum(rule.max_attempts for rule in spec.on_fail if rule.then is None)
    ending = next((rule for rule in spec.on_fail if rule.then and status in rule.verdict), None)
    if ending is None:
        assert isinstance(decision, NotPromoted if optional else Stop)
        assert decision.rule is None
    else:
        assert decision.rule == ending
