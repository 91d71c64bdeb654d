"""For every rule of the five plans, the walk that it causes: what runs again, what is skipped, what is handed on.

The oracle is written from docs/plan.md ("The walk"), not from the engine: what a patch reaches runs again, and all that
depends on it through `needs`; everything else is skipped with its verdict; each stage takes what was handed on last.
Gates are arranged so that all pass but that of the rule's stage on its first attempt.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bloomery.measure import Emitted
from bloomery.plan.load import load, load_text
from support.anything import Anything, Walked, in_memory, walk

PLANS = Path(__file__).resolve().parents[1] / "plans"
NAMES = ("agp", "felix", "harmonic", "holographic", "perspective")

Raw = dict[str, Any]
ONE = {"metric": "probe/one", "op": "==", "value": 1}
LATER = {"metric": "probe/later", "op": ">", "value": 0}
"""Of the kinds below: always 1; and 0 on a stage's first attempt, 1 afterwards."""


def every_stage(stages: list[Raw]) -> Iterator[Raw]:
    for stage in stages:
        yield stage
        yield from every_stage(stage.get("stages") or [])


def rules_of(name: str) -> list[tuple[str, str, str]]:
    stages = every_stage(dict(load(PLANS / f"{name}.yaml").raw)["stages"])
    return [(name, stage["id"], rule["name"]) for stage in stages for rule in stage.get("on_fail") or ()]


RULES = [case for name in NAMES for case in rules_of(name)]


def arranged(name: str, stage_id: str, rule_name: str) -> tuple[Raw, Raw, Raw]:
    """(plan, stage, rule): only this rule is left, and applies once. What conditions name takes part as before."""
    plan = in_memory(load(PLANS / f"{name}.yaml").raw)
    plan.pop("claims", None)
    chosen: Raw = {}
    for stage in every_stage(plan["stages"]):
        rules = stage.pop("on_fail", [])
        stage.pop("stop_if", None)
        if stage.get("gate"):
            stage["gate"] = [{"any": [*entry.get("any", [entry]), ONE]} for entry in stage["gate"]]
        if stage["id"] == stage_id:
            chosen = {key: value for rule in rules if rule["name"] == rule_name for key, value in rule.items()}
            chosen = {key: value for key, value in chosen.items() if key not in ("when", "verdict", "max_attempts")}
            stage["on_fail"] = [chosen]
            stage["gate"] = [*stage.get("gate", []), LATER]
    return plan, next(one for one in every_stage(plan["stages"]) if one["id"] == stage_id), chosen


def measured(name: str, where: str) -> float:
    attempt = int(where.split("/")[2])
    return {"probe/one": 1.0, "probe/later": float(attempt > 1)}.get(name, 1.0)


def run(plan: Raw, name: str, monkeypatch: pytest.MonkeyPatch) -> Walked:
    loaded = load_text(json.dumps(plan), PLANS / f"{name}.yaml")
    catalogue = Anything(loaded, measured)
    for kind in catalogue.kinds().values():
        for probe in (ONE, LATER):
            kind._emits.setdefault(probe["metric"], Emitted("", "higher"))
    return walk(loaded, catalogue, monkeypatch)


# The oracle: what the page says


def flat(plan: Raw) -> list[Raw]:
    """Stages as they are walked, each with the `needs` of all its parties; cycles of a loop by their own names."""
    out: list[Raw] = []
    for stage in plan["stages"]:
        out.append({**stage, "all": needs_of(stage, {}), "own": needs_of({"needs": stage.get("needs")}, {})})
        for number in range(1, stage.get("repeat", 0) + 1):
            names = {one["id"]: f"{stage['id']}-{number}-{one['id']}" for one in stage["stages"]}
            for one in stage["stages"]:
                own, every = needs_of({"needs": one.get("needs")}, names), needs_of(one, names)
                out.append({**one, "id": names[one["id"]], "all": every, "own": own, "loop": stage["id"]})
    return out


def needs_of(stage: Raw, names: dict[str, str]) -> list[tuple[str, str, str]]:
    """(input, stage, output) of everything that any party of the stage takes."""
    variants = [stage, *(stage.get("arms") or {}).values(), stage.get("control") or {}]
    found: list[tuple[str, str, str]] = []
    for variant in variants:
        for name, text in (variant.get("needs") or {}).items():
            source, _, output = text.partition(".")
            if source != "inputs":
                source = source.partition("@")[0]
                found.append((name, names.get(source, source), output))
    return found


def run_again(plan: Raw, stage_id: str, rule: Raw) -> set[str]:
    """What the rule's patch reaches, and all that depends on it. Further seeds of a stage change no earlier seed, and
    with it nothing that builds on that one."""
    if all(path.endswith(".seeds") for path in rule["set"]):
        return {path.split(".")[1] for path in rule["set"]}
    reached = {path.split(".")[1] if path.startswith("stages.") else stage_id for path in rule["set"]}
    stages = flat(plan)
    again = set(reached)
    for _ in stages:
        for stage in stages:
            sources = {source for _, source, output in stage["all"] if output != "passed"}
            inside = {one["id"] for one in stages if one.get("loop") in sources and stage.get("loop") != one["loop"]}
            if (sources | inside) & again:
                again.add(stage["id"])
    return {one["id"] for one in stages if one["id"] in again and not one.get("repeat")}


# What happened


def walks(ran: Walked) -> list[list[dict[str, Any]]]:
    out: list[list[dict[str, Any]]] = []
    for event in ran.events:
        if event["event"] == "walk_started":
            out.append([])
        out[-1].append(event)
    return out


def of(events: list[dict[str, Any]], name: str, **facts: Any) -> list[dict[str, Any]]:
    return [one for one in events if one["event"] == name and all(one.get(key) == want for key, want in facts.items())]


@pytest.mark.parametrize(
    ("name", "stage_id", "rule_name"), RULES, ids=[f"{name}-{stage}-{rule}" for name, stage, rule in RULES]
)
def test_a_rule_does_what_the_page_says(
    name: str, stage_id: str, rule_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, _, rule = arranged(name, stage_id, rule_name)
    ran = run(plan, name, monkeypatch)
    trained = [one["id"] for one in flat(plan) if not one.get("repeat")]
    if "then" in rule:
        assert len(walks(ran)) == 1
        reached = trained if rule["then"] == "go_on" else trained[: trained.index(stage_id) + 1]
        assert [event["stage"] for event in ran.told("verdict")] == reached
        assert ran.outcome.status == "failed"
        return
    assert ran.outcome.status == "passed", ran.outcome
    first, second = walks(ran)
    assert [event["stage"] for event in of(first, "verdict")] == trained[: trained.index(stage_id) + 1]
    started_before = {event["stage"] for event in of(first, "cell_started")}
    again = run_again(plan, stage_id, rule)
    assert stage_id in again, "the oracle and the plan agree that the rule can mend its stage"

    started = {event["stage"] for event in of(second, "cell_started")}
    assert started == again | (set(trained) - started_before)
    assert {event["stage"] for event in of(second, "verdict")} == started  # the others keep the verdict that they have
    attempts = {event["stage"]: event["attempt"] for event in ran.told("stage_started")}
    assert attempts == {one: 2 if one in again and one in started_before else 1 for one in trained}
    handed_on(plan, ran, attempts)


def handed_on(plan: Raw, ran: Walked, attempts: dict[str, int]) -> None:
    """Every candidate's inputs are what the stages that it names made last; of a loop, what its last cycle made."""
    judged = {(one["stage"], one["attempt"]): one["candidate"] for one in ran.told("candidate_chosen")}
    taken = {
        (one["stage"], one["attempt"], one["who"]): (one["of"][0], one["of"][1], one["of"][2])
        for one in ran.told("cell_reused")
    }
    made = {(one["stage"], one["attempt"], one["who"], one["output"]): one["digest"] for one in ran.told("artifact")}
    stages = {one["id"]: one for one in flat(plan)}
    order = list(stages)

    def latest(source: str, name: str, output: str, before: str) -> str:
        here = stages[source]
        if here.get("repeat"):
            earlier = [one for one in order[: order.index(before)] if stages[one].get("loop") == source]
            cycles = [one for one in earlier if one.split("-")[1] != before.split("-")[1]] if stages[before].get(
                "loop") == source else earlier  # fmt: skip
            if cycles:
                return latest(cycles[-1], name, output, before)
            ((_, outside, further),) = [need for need in here["own"] if need[0] == name]
            return latest(outside, name, further, source)
        party = judged.get((source, attempts[source]), "candidate")
        place = taken.get((source, attempts[source], party), (source, attempts[source], party))
        wanted = output or (name if (*place, name) in made else "model")
        return made[(*place, wanted)]

    for stage in stages.values():
        cells = [one for one in ran.told("cell_started") if one["stage"] == stage["id"]]
        cells = [one for one in cells if one["attempt"] == attempts.get(stage["id"]) and one["who"] != "control"]
        for cell in (one for one in cells if not one["who"].startswith("baseline:")):
            for name, source, output in stage["own"]:
                if output != "passed":
                    assert cell["inputs"][name] == latest(source, name, output, stage["id"]), (stage["id"], name)
