"""Gates judge stored evidence, fail closed, and do not care about order."""

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.engine.gate import failed, judge
from bloomery.engine.intervals import paired_interval, wilson_interval
from bloomery.engine.verdict import ConditionResult, Verdict
from bloomery.measure import Emitted, Interval, Items, Measurement
from bloomery.plan.schema import AnyOf, Condition, Gate

LOSS = {"text/loss": Emitted("nats_per_token", "lower")}


def condition(**keys: Any) -> Condition:
    return Condition.model_validate({"metric": "text/loss", "op": "<=", "value": 1, **keys})


def one(gate: Condition | AnyOf, evidence: Sequence[Measurement], declared: Any = None, **keys: Any) -> ConditionResult:
    verdict = judge((gate,), evidence, LOSS if declared is None else declared, **keys)
    (result,) = verdict.conditions
    assert verdict.status == result.status
    json.dumps(verdict.to_json(), allow_nan=False)
    return result


def loss(
    value: float, seed: int | None = 0, who: str = "candidate", name: str = "text/loss", **keys: Any
) -> Measurement:
    return Measurement(name, value, seed=seed, who=who, **keys)


def over(values: Sequence[float], seed: int | None = 0, who: str = "candidate", name: str = "text/loss") -> Measurement:
    """A mean over items of equal weight, with the items."""
    items = Items("val", tuple(v * 10 for v in values), (10.0,) * len(values))
    return Measurement(name, sum(values) / len(values), len(values), None, seed, "", who, None, items)


def texts(shift: float, noise: float = 0.05, n: int = 60, draw: int = 0) -> list[float]:
    """Hard and easy texts, the same for all; a model's own noise on top, which is zero in the mean."""
    hard, own = random.Random(99), random.Random(draw)
    errors = [own.gauss(0, noise) for _ in range(n)]
    return [3.7 + hard.gauss(0, 0.5) + shift + error - sum(errors) / n for error in errors]


# Values without confidence


@pytest.mark.parametrize(
    ("op", "passing", "failing"),
    [
        ("<", (3.99,), (4.0, 4.1)),
        ("<=", (3.9, 4.0), (4.01,)),
        (">", (4.1,), (4.0, 3.9)),
        (">=", (4.0, 4.1), (3.99,)),
        ("==", (4.0,), (3.99, 4.01)),
        ("!=", (3.9, 4.1), (4.0,)),
    ],
)
def test_operators(op: str, passing: tuple[float, ...], failing: tuple[float, ...]) -> None:
    for value in (*passing, *failing):
        result = one(condition(op=op, value=4), [loss(value)])
        assert result.status == ("pass" if value in passing else "fail")
        assert (result.value, result.candidate, result.reference) == (value, value, None)
        assert (result.n, result.seeds) == (1, (0,))


def test_an_empty_gate_passes() -> None:
    assert judge((), [], {}) == Verdict("pass")


def test_mean_over_seeds_and_worst_seed() -> None:
    evidence = [loss(3.0, 0), loss(4.0, 1), loss(3.5, 2)]
    assert one(condition(value=3.5), evidence).value == 3.5
    for op, worst in (("<", 4.0), ("<=", 4.0), (">", 3.0), (">=", 3.0), ("==", 3.0), ("!=", 3.5)):
        assert one(condition(op=op, value=3.6, aggregate="worst"), evidence).value == worst


def test_relative_values_are_paired_by_seed() -> None:
    evidence = [loss(3.0, 0), loss(4.0, 1), loss(4.0, 1, "control"), loss(2.0, 0, "control")]
    ratio = one(condition(relative_to="control"), evidence)
    assert (ratio.value, ratio.values, ratio.candidate, ratio.reference) == (1.25, (1.5, 1.0), 3.5, 3.0)
    assert one(condition(relative_to="control", **{"as": "difference"}), evidence).values == (1.0, 0.0)
    assert one(condition(relative_to="control", aggregate="worst"), evidence).value == 1.5
    swapped = one(condition(of="control", relative_to="candidate"), evidence)
    assert swapped.value == pytest.approx((2 / 3 + 1) / 2)


def test_the_last_look_counts_and_the_extremes_are_derived() -> None:
    evidence = [loss(v, name="val/loss", step=s) for s, v in ((10, 5.0), (30, 3.0), (20, 2.0))]
    declared = {"val/loss": Emitted()}
    for metric, value in (("val/loss", 3.0), ("val/loss/min", 2.0), ("val/loss/max", 5.0)):
        assert one(condition(metric=metric, value=9), evidence, declared).value == value
    final = [*evidence, loss(1.0, name="val/loss")]
    assert one(condition(metric="val/loss", value=9), final, declared).value == 1.0
    assert one(condition(metric="val/*/min", value=9), evidence, declared).value == 2.0
    assert one(condition(metric="train/loss/min"), evidence, declared).status == "missing"


# Failing closed


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("op", ["<", ">", "!=", "=="])
def test_what_is_not_a_number_is_missing_whoever_measured_it(bad: float, op: str) -> None:
    for keys in ({}, {"relative_to": "control"}, {"relative_to": "control", "as": "difference"}):
        for evidence in (
            [loss(bad), loss(1.0, who="control")],
            [loss(2.0), loss(bad, who="control")],
            [loss(2.0, 0), loss(bad, 1), loss(1.0, 0, "control"), loss(1.0, 1, "control")],
        ):
            if not keys and evidence[1].who == "control" and math.isfinite(evidence[0].value):
                continue
            result = one(condition(op=op, value=1.5, **keys), evidence)
            assert result.status == "missing"
            assert str(bad) in result.reason


@pytest.mark.parametrize("reference", [0.0, -0.0, -1.0, 5e-324])
def test_a_ratio_to_zero_or_less_is_missing(reference: float) -> None:
    result = one(condition(op="!=", relative_to="control"), [loss(1e300), loss(reference, who="control")])
    assert (result.status, "no ratio" in result.reason) == ("missing", True)
    zero = one(condition(op="<", relative_to="control", **{"as": "difference"}), [loss(-2.0), loss(0.0, who="control")])
    assert zero.status == "pass"


def test_what_was_not_measured_or_not_declared_is_missing() -> None:
    cases: list[tuple[Condition, list[Measurement], Any, str]] = [
        (condition(), [], LOSS, "was not measured for candidate"),
        (condition(), [loss(0.5)], {}, "is declared by no stage"),
        (condition(relative_to="control"), [loss(0.5)], LOSS, "was not measured for control"),
        (condition(relative_to="baseline:*"), [loss(0.5)], LOSS, "stands for nothing"),
        (condition(relative_to="arm:*", of="arm:a"), [loss(0.5, who="arm:a")], LOSS, "stands for nothing"),
        (condition(metric="text/*/loss"), [loss(0.5)], LOSS, "matches 'text/*/loss'"),
        (condition(), [loss(0.5, 0), loss(1.0, 1, name="train/loss")], LOSS, "seed 1"),
        (condition(), [loss(0.5, 0), loss(0.6, 0)], LOSS, "measured twice"),
        (condition(), [loss(0.5, 0), loss(0.5, None)], LOSS, "with and without a seed"),
    ]
    for gate, evidence, declared, reason in cases:
        result = one(gate, evidence, declared)
        assert (result.status, result.value, result.interval) == ("missing", None, None)
        assert reason in result.reason


def test_the_same_measurement_told_twice_is_one() -> None:
    assert one(condition(), [loss(0.5), loss(0.5)]).status == "pass"


def test_a_control_needs_every_seed_but_a_baseline_or_stage_may_be_shared() -> None:
    candidates = [loss(3.0, 0), loss(4.0, 1)]
    shared = {"control": "missing", "arm:x": "missing", "baseline:bigram": "pass", "stage:base": "pass"}
    for who, status in shared.items():
        result = one(condition(relative_to=who), [*candidates, loss(4.0, 0, who)])
        assert result.status == status
    assert "one seed" in one(condition(relative_to="stage:base"), [*candidates, loss(4.0, 7, "stage:base")]).reason
    assert one(condition(relative_to="control"), [*candidates, loss(4.0, None, "control")]).status == "pass"
    several = [loss(4.0, 0, "baseline:b"), loss(5.0, 1, "baseline:b"), loss(6.0, 2, "baseline:b")]
    assert one(condition(relative_to="baseline:b"), [*candidates, *several]).values == (0.75, 0.8)
    assert one(condition(relative_to="baseline:b"), [*candidates, *several[1:]]).status == "missing"


def test_seeds_that_there_must_be() -> None:
    evidence = [loss(0.5, 0), loss(1.0, 0, "control")]
    assert one(condition(), evidence, seeds=[0]).status == "pass"
    assert one(condition(), evidence, seeds=[0, 1]).status == "missing"
    both = [*evidence, loss(0.5, 1)]
    assert one(condition(relative_to="control"), both, seeds=[0, 1]).status == "missing"


# Confidence


@pytest.mark.parametrize(("op", "value", "status"), [("<", 1.0, "missing"), ("<", 0.5, "fail"), (">", 0.5, "pass")])
def test_a_mean_with_a_seed_that_never_got_there_is_more_than_it_seems(op: str, value: float, status: str) -> None:
    """Seed 0 needs a tenth of the control's tokens; seed 1 read as many as its control and was not there: its ratio is
    above 1, and so the mean above 0.55, but by how much nobody knows."""

    def look(value: float, who: str, seed: int, tokens: int) -> Measurement:
        return loss(value, seed, who, step=tokens, tokens=tokens)

    looks = [look(1.5, "candidate", 0, 10), look(1.5, "candidate", 0, 100), look(2.5, "candidate", 1, 100)]
    looks += [look(2.0, "control", seed, 100) for seed in (0, 1)]
    asked = condition(metric="text/loss/tokens_to_reference", relative_to="control", op=op, value=value)
    assert one(asked, looks).status == status


def test_a_share_of_n_needs_as_many_as_wilson_says() -> None:
    declared = {"safety/block_rate": Emitted("share", "higher")}
    gate = condition(metric="safety/block_rate", op=">=", value="98%", confidence="95%")
    # upper bound below 98 %: 0.98 - share > 1.645 sqrt(0.98 x 0.02 / 500) = 0.0103, so 484 and fewer
    for right, status in ((496, "pass"), (495, "inconclusive"), (485, "inconclusive"), (484, "fail")):
        result = one(gate, [loss(right / 500, name="safety/block_rate", n=500)], declared)
        assert result.status == status
        assert result.interval == wilson_interval(right, 500)
    assert result.bound is not None
    assert result.bound.level == pytest.approx(0.9)


def test_one_sided_bound_of_the_paired_difference_decides() -> None:
    gate = condition(relative_to="control", value=0, confidence="95%", **{"as": "difference"})
    for shift, status in ((-0.1, "pass"), (0.0, "inconclusive"), (0.1, "fail")):
        a, b = over(texts(shift, draw=1)), over(texts(0, draw=2), who="control")
        result = one(gate, [a, b])
        assert result.status == status
        assert a.items is not None
        assert b.items is not None
        assert result.bound == paired_interval([(a.items, b.items)], "difference", 2 * 0.95 - 1)
        assert result.interval == paired_interval([(a.items, b.items)], "difference")
        assert result.n == 60


def test_without_confidence_the_interval_is_reported_but_does_not_decide() -> None:
    evidence = [over(texts(-0.001, draw=1)), over(texts(0, draw=2), who="control")]
    result = one(condition(relative_to="control", value=0, **{"as": "difference"}), evidence)
    assert result.value is not None
    assert result.interval is not None
    assert result.status == ("pass" if result.value <= 0 else "fail")
    assert result.interval.low < 0 < result.interval.high
    assert result.bound is None


def test_the_wider_of_seeds_and_items_counts() -> None:
    gate = condition(value=4, confidence="95%")
    steady = [over(texts(0, 0.5, draw=s), s) for s in range(3)]
    unsteady = [over([v + s for v in texts(0, 0.5, draw=s)], s) for s in range(3)]
    few = one(gate, steady).interval
    wide = one(gate, unsteady).interval
    assert few is not None
    assert wide is not None
    assert wide.high - wide.low > 3 * (few.high - few.low)
    two = one(gate, unsteady[:2]).interval
    assert two is not None
    assert two.high - two.low < 1, "two seeds give no interval of their own"
    bare = [loss(m.value, m.seed) for m in unsteady]
    assert one(gate, bare).interval == wide
    assert one(gate, bare[:2]).status == "inconclusive"


@pytest.mark.parametrize("relative", [{}, {"relative_to": "control", "as": "difference"}, {"relative_to": "control"}])
def test_confidence_without_an_interval_is_inconclusive(relative: dict[str, Any]) -> None:
    for value in (-100.0, 100.0):
        result = one(condition(confidence="95%", **relative), [loss(value), loss(1.0, who="control")])
        assert (result.status, result.interval) == ("inconclusive", None)
        assert "no interval" in result.reason
    same = [loss(0.5, s, who) for s in range(5) for who in ("candidate", "control")]
    assert one(condition(value=2, confidence="95%", **relative), same).status == "inconclusive"


@pytest.mark.parametrize("confidence", [0, 0.3, 0.5, 1])
def test_a_confidence_that_gives_no_bound_is_inconclusive(confidence: float) -> None:
    assert one(condition(confidence=confidence, value=100), [over(texts(0))]).status == "inconclusive"


def test_an_interval_as_measured_serves_if_it_is_sure_enough() -> None:
    for interval, status in (
        (Interval(0.7, 0.9, 0.95), "pass"),
        (Interval(0.7, 0.9, 0.90), "pass"),
        (Interval(0.7, 0.9, 0.80), "inconclusive"),
        (Interval(0.7, 1.1, 0.95), "inconclusive"),
        (Interval(0.85, 0.9, 0.95), "inconclusive"),  # the value is outside: no interval of it
        (Interval(0.8, 0.8, 0.95), "inconclusive"),
        (Interval(math.nan, 0.9, 0.95), "inconclusive"),
        (Interval(-math.inf, 0.9, 0.95), "inconclusive"),
    ):
        assert one(condition(confidence="95%"), [loss(0.8, interval=interval)]).status == status


def test_items_that_do_not_make_up_the_value_give_no_interval() -> None:
    honest = over(texts(0))
    perplexity = Measurement("text/loss", math.exp(honest.value), 60, seed=0, items=honest.items)
    assert one(condition(value=1e9, confidence="95%"), [perplexity]).status == "inconclusive"


def test_perplexities_are_compared_text_by_text() -> None:
    """As their losses: at seven percent less, hard and easy texts would hide it."""

    def perplexity(of: Measurement) -> Measurement:
        assert of.items is not None
        items = replace(of.items, exponential=True)
        told = replace(of, name="text/perplexity", value=math.exp(of.value), items=items)
        return Measurement.from_json(told.to_json())

    both = [perplexity(over(texts(-0.07))), perplexity(over(texts(0, draw=1), who="control"))]
    declared = {"text/perplexity": Emitted("", "lower")}
    asked = condition(metric="text/perplexity", relative_to="control", value=0.97, confidence="95%")
    found = one(asked, both, declared)
    assert found.status == "pass"
    assert found.interval is not None
    assert 0.91 < found.interval.low < math.exp(-0.07) < found.interval.high < 0.97
    blind = [replace(one, items=None, interval=Interval(one.value * 0.88, one.value * 1.14)) for one in both]
    assert one(asked, blind, declared).status == "inconclusive"


def test_worst_seed_with_confidence_must_clear_with_every_seed() -> None:
    gate = condition(value=4, aggregate="worst", confidence="95%")
    good = [over(texts(-0.5, draw=s), s) for s in range(2)]
    assert one(gate, good).status == "pass"
    shaky = over([v + (40 if i == 0 else -0.7) for i, v in enumerate(texts(-0.1))], 2)
    result = one(gate, [*good, shaky])
    assert shaky.value < 4
    assert result.status == "inconclusive"
    assert one(gate, [*good, over(texts(2, draw=3), 2)]).status == "fail"
    assert one(gate, [*good, loss(1.0, 2)]).status == "inconclusive"


def test_equality_with_confidence_is_never_certain_and_inequality_may_be() -> None:
    evidence = [over(texts(0))]
    value = evidence[0].value
    assert one(condition(op="==", value=value, confidence="95%"), evidence).status == "inconclusive"
    assert one(condition(op="==", value=9, confidence="95%"), evidence).status == "fail"
    assert one(condition(op="!=", value=9, confidence="95%"), evidence).status == "pass"
    assert one(condition(op="!=", value=value, confidence="95%"), evidence).status == "inconclusive"


def test_different_items_are_never_paired() -> None:
    a, b = over(texts(-0.1, draw=1)), over(texts(0, draw=2), who="control")
    assert b.items is not None
    other = replace(b, items=replace(b.items, key="other"))
    gate = condition(relative_to="control", value=0, confidence="95%", **{"as": "difference"})
    assert one(gate, [a, b]).status == "pass"
    apart = one(gate, [a, other])
    assert apart.status == "inconclusive"
    assert apart.interval is not None
    assert apart.interval.high - apart.interval.low > 0.3


# Words


@pytest.mark.parametrize("as_", ["difference", "ratio"])
@pytest.mark.parametrize("seeds", [1, 2, 3])
@pytest.mark.parametrize("aggregate", ["mean", "worst"])
def test_an_exact_tie_on_all_items_shows_no_spread(as_: str, seeds: int, aggregate: str) -> None:
    values = texts(0.0)
    same = [over(values, seed, who) for who in ("candidate", "control") for seed in range(seeds)]
    equal = 1.0 if as_ == "ratio" else 0.0
    asked: dict[str, Any] = {"relative_to": "control", "as": as_, "value": equal, "aggregate": aggregate}
    for op, status in (("<=", "pass"), ("<", "fail"), (">", "fail")):
        plain = one(condition(op=op, **asked), same)
        assert (plain.status, plain.value, plain.interval) == (status, equal, None)
        sure = one(condition(op=op, **asked, confidence=0.95), same)
        assert (sure.status, sure.interval, sure.bound) == ("inconclusive", None, None)
        for result in (plain, sure):
            assert "both are alike to the last bit on all 60 items" in result.reason
            assert "better" not in result.words
            assert "worse" not in result.words or (op == "<=" and result is plain)
    # The least disagreement on one item is a spread, and a narrow one.
    nearly = [over([values[0] + 1e-3, *values[1:]], seed) for seed in range(seeds)] + same[seeds:]
    found = one(condition(op="<=", **asked), nearly)
    assert found.interval is not None
    assert found.interval.high - found.interval.low < 1e-3
    assert "alike" not in found.reason


def test_a_tie_on_yes_no_items_keeps_its_interval() -> None:
    right = [1.0] * 30 + [0.0] * 10
    both = [over([x / 10 for x in right], who=who) for who in ("candidate", "control")]
    both = [replace(m, items=Items("val", tuple(right), (1.0,) * 40), value=0.75) for m in both]
    found = one(condition(relative_to="control", **{"as": "difference"}, value=0, confidence=0.95), both)
    assert found.interval is not None
    assert found.interval.low < 0 < found.interval.high
    assert found.status == "inconclusive"
    assert "alike" not in found.reason


def test_not_worse_is_not_called_better() -> None:
    gate = condition(relative_to="control", value=0, **{"as": "difference"})
    cases = {"better": -0.1, "not worse": -0.001, "worse": 0.1}
    for word, shift in cases.items():
        b = texts(0, draw=2)
        noise = [random.Random(3).choice((-1, 1)) * 0.02 * ((i % 5) - 2) for i in range(60)]
        result = one(gate, [over([v + shift + e for v, e in zip(b, noise, strict=True)]), over(b, who="control")])
        assert result.comparison == word
        assert result.words.endswith(word)
    allowed = condition(relative_to="control", value=0.2, **{"as": "difference"})
    within = one(allowed, [over([v + 0.1 + 0.01 * (i % 3) for i, v in enumerate(b)]), over(b, who="control")])
    assert (within.status, within.comparison) == ("pass", "worse")


def test_the_better_direction_is_the_metric_s_and_only_then_the_operator_s() -> None:
    a, b = over(texts(0.3, draw=1)), over(texts(0, draw=2), who="control")
    gate = condition(relative_to="control", op=">=", value=0, **{"as": "difference"})
    assert one(gate, [a, b], {"text/loss": Emitted("", "higher")}).comparison == "better"
    assert one(gate, [a, b], {"text/loss": Emitted("", "lower")}).comparison == "worse"
    assert one(gate, [a, b], {"text/loss": Emitted()}).comparison == "better"
    assert one(condition(value=9), [a]).comparison == ""
    single = one(condition(relative_to="control"), [loss(0.5), loss(1.0, who="control")])
    assert single.comparison == "not worse", "one value each: no interval, so never better"


def test_a_result_says_what_was_asked_and_what_was_found() -> None:
    evidence = [over(texts(-0.1, draw=1)), over(texts(0, draw=2), who="control")]
    result = one(condition(relative_to="control", value="1.00", confidence="95%"), evidence)
    assert result.words.startswith("text/loss of candidate / control <= 1 at 95 % confidence: 0.9")
    assert "over 1 seed and n of 60, better" in result.words
    told = result.to_json()
    asked = {"metric": "text/loss", "op": "<=", "value": 1, "relative_to": "control", "confidence": 0.95}
    assert told["condition"] == asked
    assert told["interval"][2] == 0.95
    assert (told["note"], told["seeds"], told["n"]) == ("", [0], 60)


# Several: lists, wildcards, any


def test_a_list_is_as_bad_as_its_worst() -> None:
    fail, missing = condition(value=0), condition(metric="text/nothing")
    inconclusive, passing = condition(confidence="95%", value=5), condition(value=5)
    evidence = [loss(1.0)]
    for gate, status in (
        ((passing, fail, missing, inconclusive), "fail"),
        ((passing, inconclusive, missing), "missing"),
        ((inconclusive, passing), "inconclusive"),
        ((passing, passing), "pass"),
    ):
        assert judge(gate, evidence, LOSS).status == status
        assert judge(tuple(reversed(gate)), evidence, LOSS).status == status


def test_a_star_is_one_segment_and_every_match_must_pass() -> None:
    declared = {"gauntlet/*/accuracy": Emitted("share", "higher")}
    names = {"gauntlet/math/accuracy": 0.9, "gauntlet/logic/accuracy": 0.7, "gauntlet/all/deep/accuracy": 0.1}
    evidence = [loss(value, name=name) for name, value in names.items()]
    verdict = judge((condition(metric="gauntlet/*/accuracy", op=">", value=0.6),), evidence, declared)
    assert verdict.status == "pass"
    assert [result.metric for result in verdict.conditions] == ["gauntlet/logic/accuracy", "gauntlet/math/accuracy"]
    assert judge((condition(metric="gauntlet/*/accuracy", op=">", value=0.8),), evidence, declared).status == "fail"
    promised = {**declared, "gauntlet/code/accuracy": Emitted()}
    assert judge((condition(metric="gauntlet/*/accuracy", op=">", value=0.6),), evidence, promised).status == "missing"


def test_every_baseline_and_every_other_arm() -> None:
    evidence = [loss(3.0), loss(4.0, who="baseline:bigram"), loss(2.0, who="baseline:frozen")]
    verdict = judge((condition(relative_to="baseline:*"),), evidence, LOSS)
    assert [(r.relative_to, r.status) for r in verdict.conditions] == [
        ("baseline:bigram", "pass"),
        ("baseline:frozen", "fail"),
    ]
    elsewhere = [*evidence[:2], loss(2.0, who="baseline:frozen", name="exits/kl")]
    assert judge((condition(relative_to="baseline:*"),), elsewhere, LOSS).status == "pass"
    partial = [*evidence[:2], loss(2.0, who="baseline:frozen", name="text/perplexity")]
    assert judge((condition(relative_to="baseline:*"),), partial, LOSS).status == "missing"
    arms = [loss(3.0, who="arm:a"), loss(4.0, who="arm:b")]
    (result,) = judge((condition(of="arm:a", relative_to="arm:*"),), arms, LOSS).conditions
    assert (result.relative_to, result.status) == ("arm:b", "pass")


def test_any_takes_one_pass_and_divides_the_confidence() -> None:
    evidence = [over(texts(-0.1, draw=1)), over(texts(0, draw=2), who="control")]
    clear = condition(relative_to="control", confidence="95%", value=1)
    missing = condition(metric="text/nothing", confidence="95%")
    low = condition(value=0)
    either = judge((AnyOf(any=(low, missing, clear)),), evidence, LOSS)
    assert either.status == "pass"
    assert [result.alternative for result in either.conditions] == [0, 0, 0]
    third = either.conditions[2]
    assert third.confidence == pytest.approx(1 - 0.05 / 3)
    assert third.bound is not None
    assert third.bound.level == pytest.approx(1 - 0.1 / 3)
    doubtful = condition(confidence="95%", value=3.7)
    for members, status in (
        ((low, low), "fail"),
        ((low, missing), "missing"),
        ((low, missing, doubtful), "inconclusive"),
    ):
        assert judge((AnyOf(any=members),), evidence, LOSS).status == status


def test_dividing_the_confidence_can_take_a_pass_away() -> None:
    rates = {f"a/b{i}": 0.99 for i in range(40)}
    evidence = [loss(496 / 500, name=name, n=500) for name in rates]
    declared = {name: Emitted("share", "higher") for name in rates}
    gates = tuple(condition(metric=name, op=">=", value=0.98, confidence="95%") for name in rates)
    assert judge(gates[:1], evidence, declared).status == "pass"
    assert judge((AnyOf(any=gates),), evidence, declared).status == "inconclusive"


def test_a_stage_that_broke_off_has_failed() -> None:
    verdict = failed(judge((), [], {}), "loss is nan at step 7")
    assert (verdict.status, verdict.reason) == ("fail", "loss is nan at step 7")
    assert verdict.to_json()["reason"] == "loss is nan at step 7"


# Properties

OPS = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
VALUES = st.floats(-10, 10).map(lambda value: round(value, 2))


@st.composite
def gates(draw: st.DrawFn) -> Gate:
    def make() -> Condition:
        return condition(
            metric=draw(st.sampled_from(["text/loss", "text/*", "val/loss", "val/loss/min"])),
            op=draw(OPS),
            value=draw(VALUES),
            relative_to=draw(st.sampled_from([None, "control", "baseline:b", "baseline:*", "stage:s"])),
            aggregate=draw(st.sampled_from(["mean", "worst"])),
            confidence=draw(st.sampled_from([None, 0.9, 0.95])),
            **{"as": draw(st.sampled_from(["ratio", "difference"]))},
        )

    entries = [make() for _ in range(draw(st.integers(1, 3)))]
    if draw(st.booleans()):
        return (*entries, AnyOf(any=tuple(make() for _ in range(draw(st.integers(1, 3))))))
    return tuple(entries)


@st.composite
def evidences(draw: st.DrawFn, bad: bool = False) -> list[Measurement]:
    seeds = draw(st.integers(1, 4))
    number = st.one_of(VALUES, st.sampled_from([math.nan, math.inf, 0.0])) if bad else VALUES
    found: list[Measurement] = []
    for who in ("candidate", "control", "baseline:b", "baseline:c", "stage:s"):
        for name in ("text/loss", "text/other", "val/loss"):
            for seed in range(seeds):
                if bad and draw(st.integers(0, 5)) == 0:
                    continue
                if draw(st.booleans()):
                    found.append(over(draw(st.lists(VALUES, min_size=4, max_size=4)), seed, who, name))
                else:
                    step = draw(st.sampled_from([None, 1, 2]))
                    found.append(loss(draw(number), seed, who, name, step=step))
    return found


DECLARED = {"text/*": Emitted("", "lower"), "val/loss": Emitted("", "lower")}


@given(gates(), evidences(bad=True), st.randoms(use_true_random=False), st.permutations(range(4)))
@settings(max_examples=40, deadline=None)
def test_the_order_of_evidence_and_the_names_of_seeds_never_matter(
    gate: Gate, evidence: list[Measurement], shuffler: random.Random, names: list[int]
) -> None:
    def statuses(measurements: Sequence[Measurement]) -> list[Any]:
        verdict = judge(gate, measurements, DECLARED)
        json.dumps(verdict.to_json(), allow_nan=False)
        return [verdict.status, *((r.metric, r.relative_to, r.status, r.value, r.interval) for r in verdict.conditions)]

    shuffled = list(evidence)
    shuffler.shuffle(shuffled)
    renamed = [replace(m, seed=names[m.seed or 0]) for m in shuffled]
    expected = statuses(evidence)
    assert statuses(shuffled) == expected
    assert statuses(renamed) == expected


@given(gates(), evidences(), st.data())
@settings(max_examples=40, deadline=None)
def test_spoiling_evidence_never_makes_a_condition_pass(
    gate: Gate, evidence: list[Measurement], data: st.DataObject
) -> None:
    """Whatever one measurement is taken away or turned to NaN: what looks at it is missing, the rest is as before."""
    seeds = sorted({m.seed for m in evidence if m.seed is not None})
    victim = data.draw(st.sampled_from([m for m in evidence if m.who in ("candidate", "control")]))
    rest = [m for m in evidence if m is not victim]

    def by_name(measurements: Sequence[Measurement]) -> dict[Any, Any]:
        results = judge(gate, measurements, {**DECLARED, "text/loss": LOSS["text/loss"]}, seeds=seeds).conditions
        return {(r.condition, r.alternative, r.metric, r.relative_to): r.status for r in results}

    before = by_name(evidence)
    for spoilt in (rest, [*rest, replace(victim, value=math.nan, items=None)]):
        for key, status in by_name(spoilt).items():
            condition_, _, metric, relative_to = key
            looks = victim.who in (condition_.of, relative_to) and metric.removesuffix("/min") == victim.name
            assert status == "missing" if looks else status == before[key]


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(2, 40), VALUES, OPS, st.booleans(), st.booleans())
@settings(max_examples=80, deadline=None)
def test_a_constant_that_misses_its_value_never_passes(
    values: list[float], n: int, value: float, op: str, sure: bool, worst: bool
) -> None:
    """A planted false gate: every item and seed says the same, and it is not what is asked."""
    constant = values[0]
    keys: dict[str, Any] = {"confidence": 0.95} if sure else {}
    gate = condition(op=op, value=value, aggregate="worst" if worst else "mean", **keys)
    evidence = [over([constant] * n, seed) for seed in range(len(values))]
    passes = one(condition(op=op, value=value), [loss(evidence[0].value)]).status == "pass"
    result = one(gate, evidence)
    if not passes or sure:
        assert result.status != "pass"


@given(evidences(), st.sampled_from(["<", "<=", ">", ">="]), VALUES, st.floats(0.01, 5), gates())
@settings(max_examples=40, deadline=None)
def test_an_easier_value_never_loses_a_pass_and_a_harder_one_never_gains_it(
    evidence: list[Measurement], op: str, value: float, by: float, shapes: Gate
) -> None:
    shape = shapes[0]
    assert isinstance(shape, Condition)
    easier = value + by if op in ("<", "<=") else value - by
    base = shape.model_copy(update={"op": op, "value": value})
    order = ["fail", "inconclusive", "pass"]
    before = judge((base,), evidence, DECLARED).conditions
    after = judge((base.model_copy(update={"value": easier}),), evidence, DECLARED).conditions
    for hard, easy in zip(before, after, strict=True):
        if hard.status == "missing":
            assert easy.status == "missing"
        else:
            assert order.index(easy.status) >= order.index(hard.status)


@given(st.floats(0, 1), st.integers(1, 3), st.sampled_from([None, 0.9]), st.sampled_from(["mean", "worst"]))
@settings(max_examples=40, deadline=None)
def test_a_lower_loss_never_loses_a_pass(by: float, seeds: int, confidence: float | None, aggregate: str) -> None:
    keys: dict[str, Any] = {"relative_to": "control", "as": "difference", "value": 0.02, "aggregate": aggregate}
    gate = condition(confidence=confidence, **keys)
    control = [over(texts(0, draw=50 + s), s, "control") for s in range(seeds)]
    order = ["fail", "inconclusive", "pass"]
    statuses = [
        order.index(one(gate, [*control, *(over(texts(shift, draw=s), s) for s in range(seeds))]).status)
        for shift in (0.3 - by, 0.3)
    ]
    assert statuses[0] >= statuses[1]


EXTREME = st.sampled_from([0.0, 1.0, 5e-324, 1e-170, 1e154, 1e200, 1e308, -1e308]) | st.floats(
    allow_nan=False, allow_infinity=False
)


@st.composite
def extremes(draw: st.DrawFn, who: str, seed: int) -> Measurement:
    value, width, sums = draw(EXTREME), abs(draw(EXTREME)), draw(st.lists(EXTREME, min_size=2, max_size=4))
    weight = draw(st.sampled_from([1e-300, 1.0, 1e300]))
    items = Items("k", tuple(sums), (weight,) * len(sums))
    return draw(
        st.sampled_from(
            [
                loss(value, seed, who, n=9, unit="share"),
                loss(value, seed, who, interval=Interval(value - width, value + width, 0.99)),
                loss(sums[0] / weight / len(sums) + sum(sums[1:]) / weight / len(sums), seed, who, items=items),
            ]
        )
    )


@given(st.lists(st.tuples(extremes("candidate", 0), extremes("control", 0)), min_size=1, max_size=4), EXTREME, OPS,
       st.sampled_from([{}, {"as": "ratio"}, {"as": "difference"}]), st.sampled_from(["mean", "worst"]),
       st.sampled_from([{}, {"confidence": 0.95}]))  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_the_largest_and_smallest_numbers_are_judged_too(
    drawn: list[tuple[Measurement, Measurement]], value: float, op: str, as_: dict[str, str], aggregate: str,
    sure: dict[str, float],
) -> None:  # fmt: skip
    """A diverged perplexity of 1e308 is a finding, no crash."""
    evidence = [replace(measured, seed=seed) for seed, both in enumerate(drawn) for measured in both]
    relative = {"relative_to": "control", **as_} if as_ else {}
    one(condition(op=op, value=value, aggregate=aggregate, **relative, **sure), evidence)


def test_the_mean_of_large_numbers_is_their_mean_and_what_is_too_large_to_be_compared_is_missing() -> None:
    assert one(condition(), [loss(value, seed) for seed, value in enumerate((1e200, 2e200, 3e200))]).status == "fail"
    far = {"relative_to": "control", "as": "difference"}
    assert one(condition(**far), [loss(-1e308, 0), loss(1e308, 0, "control")]).status == "missing"
    assert one(condition(), [loss(1e308, 0), loss(1.5e308, 1)]).value == 1.25e308
