"""What a plan costs: every party and seed of the first walk, and what each remedy runs again. Counted by hand here."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from bloomery.engine.devices import find_device
from bloomery.engine.pricing import PricedPlan, price_plan
from bloomery.engine.stage import Cost
from bloomery.plan.load import load
from support.furnace import FLOPS_A_STEP, TOKENS_A_STEP, Bench, Furnace, Mean, below, stage

CONTROL = {"twin": "dense"}


def priced(tmp_path: Path, *stages: dict[str, Any], **keys: Any) -> PricedPlan:
    bench = Bench(tmp_path)
    return price_plan(load(bench.write(*stages, **keys)), Furnace(), find_device("cpu"))  # type: ignore[arg-type]


def retry(name: str, set: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"name": name, "set": set, "because": "it may help", **keys}


def test_the_first_walk_is_every_cell(tmp_path: Path) -> None:
    plan = priced(
        tmp_path,
        stage("one", config={"steps": 4}),
        stage("two", config={"steps": 5}, needs={"model": "one"}, gate=[below(1, relative_to="control")]),
        stage("three", config={"steps": 7}, seeds=[0]),
        seeds=[0, 1, 2], control=CONTROL | {"set": {"steps": 6}},
    )  # fmt: skip
    steps = {
        ("one", "candidate"): 4 * 3,
        ("one", "control"): 6 * 3,
        ("two", "candidate"): 5 * 3,
        ("two", "control"): 18,
    }
    steps["three", "candidate"] = 7
    assert {(line.stage, line.who): line.price.amounts.tokens for line in plan.lines} == {
        cell: TOKENS_A_STEP * count for cell, count in steps.items()
    }
    assert plan.first_walk.flops == FLOPS_A_STEP * sum(steps.values())
    assert plan.worst_case == plan.first_walk


def tokens_added(plan: PricedPlan) -> dict[str, float]:
    return {remedy.rule: remedy.adds.tokens / TOKENS_A_STEP for remedy in plan.remedies}


def test_a_remedy_adds_what_it_runs_again(tmp_path: Path) -> None:
    gate = [below(1, relative_to="control")]
    rules = [
        retry("longer", {"steps": 10}),
        retry("gain", {"gain": 2}),
        retry("earlier", {"stages.base.config.steps": 3}),
        retry("on", {"gain": 2}, **{"from": "checkpoint", "max_attempts": 3}),
        {"name": "stop", "then": "stop", "because": "enough"},
    ]
    plan = priced(
        tmp_path,
        stage("base", config={"steps": 2}),
        stage("beside", config={"steps": 100}),
        stage("main", config={"steps": 4}, needs={"model": "base"}, gate=gate, on_fail=rules),
        stage("after", config={"steps": 1}, needs={"model": "main"}),
        control=CONTROL,
    )
    added = tokens_added(plan)
    assert added == {
        "longer": 2 * 10 + 1,  # candidate and control of `main`, and `after`
        "gain": 2 * 4 + 1,  # the control's gain changes with it, though it costs the same
        "earlier": 2 * 3 + 2 * 4 + 1,
        "on": 2 * 4 + 1,
    }
    assert [remedy.uses for remedy in plan.remedies] == [1, 1, 1, 3]
    first = plan.first_walk.tokens / TOKENS_A_STEP
    assert first == 2 * 2 + 100 + 2 * 4 + 1  # `main` does not build on `beside`, so no twin of it is needed
    assert plan.worst_case.tokens / TOKENS_A_STEP == first + sum(added.values()) + 2 * added["on"]
    assert plan.remedies[2].again == ("base", "main", "after")


def test_a_control_that_keeps_its_own_value_is_not_priced_again(tmp_path: Path) -> None:
    gate = [below(1, relative_to="control")]
    rules = [retry("gain", {"gain": 2}), retry("on", {"gain": 2}, **{"from": "checkpoint"})]
    plan = priced(
        tmp_path,
        stage("main", config={"steps": 4}, gate=gate, on_fail=rules),
        control=CONTROL | {"set": {"gain": 3}},
    )
    assert tokens_added(plan) == {"gain": 4, "on": 8}


def test_caps_that_the_plan_will_not_keep_are_told(tmp_path: Path) -> None:
    assert priced(tmp_path, stage("one", config={"steps": 4}), budget={"tokens": "40 tok"}).warnings == ()
    warnings = priced(tmp_path, stage("one", config={"steps": 5}), budget={"tokens": "40 tok"}).warnings
    assert len(warnings) == 1
    assert "tokens" in warnings[0]
    assert "first walk" in warnings[0]


@pytest.mark.parametrize("steps", [1, 9])
def test_what_was_priced_is_what_is_spent(tmp_path: Path, steps: int) -> None:
    bench = Bench(tmp_path)
    bench.write(
        stage("one", config={"steps": steps}, gate=[below(99, relative_to="control")]),
        control=CONTROL | {"set": {"gain": 2}},
    )
    ran = bench.launch()
    planned, spent = ran.told("budget_planned")[0], ran.told("budget_spent")[0]
    assert planned["tokens"] == spent["tokens"] == 2 * steps * TOKENS_A_STEP
    assert planned["flops"] == spent["flops"]


@pytest.mark.parametrize(("needs", "read"), [({"model": "one"}, 9), ({"state": "one.state"}, 9), ({}, 5)])
def test_a_baseline_that_tells_its_price_is_in_it(tmp_path: Path, needs: dict[str, str], read: int) -> None:
    class Priced(Mean):
        def cost(self, config: BaseModel, *, tokens: int, built: Cost, vocab: int) -> Cost:
            return Cost(tokens=tokens, flops=built.flops)

    def plan(furnace: Furnace) -> PricedPlan:
        rules = [retry("gain", {"gain": 2})]
        gate = [below(1, relative_to="baseline:mean")]
        two = stage("two", config={"steps": 5}, needs=needs, gate=gate, on_fail=rules)
        keys = {"seeds": [0, 1, 2], "baselines": {"mean": {"kind": "mean"}}}
        file = Bench(tmp_path).write(stage("one", config={"steps": 4}), two, **keys)
        return price_plan(load(file), furnace, find_device("cpu"))  # type: ignore[arg-type]

    furnace = Furnace()
    without = plan(furnace)
    furnace.mean = Priced()
    found = plan(furnace)
    (line,) = (one for one in found.lines if one.who == "baseline:mean")
    assert (line.stage, line.cells) == ("two", 3)
    assert line.cost.tokens == read * TOKENS_A_STEP
    assert line.cost.flops == FLOPS_A_STEP * (4 if needs else 5), "by whoever built the model"
    assert found.first_walk.tokens - without.first_walk.tokens == 3 * line.cost.tokens
    adds = [one.remedies[0].adds.tokens for one in (found, without)]
    assert adds[0] - adds[1] == 3 * line.cost.tokens, "it is fitted again on what the patched stage reads"
