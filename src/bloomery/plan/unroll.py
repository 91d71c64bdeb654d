"""Loops become stages: `repeat: N` stands for at most N cycles, and each cycle's stages get ids of their own.

Stage `train` of loop `improve` is `improve-1-train`, `improve-2-train`, ... The loop itself stays, before its cycles,
as a stage without kind that holds what is carried. Inside a cycle the names of its stages mean those of that cycle;
from outside, a patch of one reaches all cycles. Plain data in, plain data out; nothing is changed in place.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bloomery.plan.cast import parse_reference
from bloomery.plan.schema import Cycle, Plan

Raw = dict[str, Any]
Cycles = Mapping[str, Cycle]
"""{id of an unrolled stage: its place}"""

MOST_CYCLES = 100
"""`check` refuses more: what has no end is a plan that is run again."""


def unroll(raw: Mapping[str, Any]) -> tuple[Raw, Cycles]:
    """A valid plan's raw form without loops, and where each unrolled stage stands."""
    cycles: dict[str, Cycle] = {}
    stages = list(_flat(raw["stages"], cycles))
    copies: dict[str, list[str]] = {}
    for unrolled, cycle in cycles.items():
        copies.setdefault(cycle.stage, []).append(unrolled)
    return {**raw, "stages": [_spread(stage, copies) for stage in stages]}, cycles


def with_cycles(plan: Plan, cycles: Cycles) -> Plan:
    """The plan of an unrolled form, whose stages know their place."""
    if not cycles:
        return plan
    stages = tuple(stage.in_cycle(cycles[stage.id]) if stage.id in cycles else stage for stage in plan.stages)
    return plan.model_copy(update={"stages": stages})


def unrolled_id(loop: str, number: int, stage: str) -> str:
    return f"{loop}-{number}-{stage}"


def _flat(stages: Sequence[Raw], cycles: dict[str, Cycle]) -> Iterator[Raw]:
    for stage in stages:
        if stage.get("repeat") is None:
            yield stage
            continue
        loop: str = stage["id"]
        inner: list[Raw] = list(stage.get("stages") or ())
        yield {key: value for key, value in stage.items() if key != "stages"}
        for number in range(1, stage["repeat"] + 1):
            names = {one["id"]: unrolled_id(loop, number, one["id"]) for one in inner}
            for one in inner:
                assert one.get("repeat") is None, "check refuses a loop inside a loop"
                cycles[names[one["id"]]] = Cycle(loop=loop, number=number, stage=one["id"], last=one is inner[-1])
                yield _renamed(one, names)


def _renamed(stage: Raw, names: Mapping[str, str]) -> Raw:
    """A copy of a stage in which the stages of its cycle bear the names of that cycle."""
    out = copy.deepcopy(stage)
    out["id"] = names[stage["id"]]
    variants = [out, *(out.get("arms") or {}).values(), *([out["control"]] if out.get("control") else [])]
    for variant in variants:
        if variant and variant.get("needs"):
            variant["needs"] = {name: _reference(text, names) for name, text in variant["needs"].items()}
    for condition in _conditions(out):
        for key in ("of", "relative_to"):
            kind, colon, name = str(condition.get(key) or "").partition(":")
            if kind == "stage" and colon:
                condition[key] = f"stage:{names.get(name, name)}"
    for rule in out.get("on_fail") or ():
        if rule.get("set"):
            rule["set"] = {_path(path, names): value for path, value in rule["set"].items()}
    return out


def _conditions(stage: Raw) -> Iterator[Raw]:
    lists = [stage.get("gate"), stage.get("stop_if"), *(rule.get("when") for rule in stage.get("on_fail") or ())]
    for several in lists:
        for entry in several or ():
            yield from entry.get("any", (entry,))


def _reference(text: str, names: Mapping[str, str]) -> str:
    reference = parse_reference(text)
    if reference is None or reference.stage not in names or text.startswith("inputs."):
        return text
    return names[reference.stage] + text[len(reference.stage) :]


def _path(path: str, names: Mapping[str, str]) -> str:
    parts = path.split(".")
    if parts[0] == "stages" and len(parts) > 2 and parts[1] in names:
        parts[1] = names[parts[1]]
    return ".".join(parts)


def _spread(stage: Raw, copies: Mapping[str, Sequence[str]]) -> Raw:
    """Where a rule patches a stage of a loop from outside, it patches that stage in every cycle."""
    if not copies or not stage.get("on_fail"):
        return stage
    out = copy.deepcopy(stage)
    for rule in out["on_fail"]:
        spread: Raw = {}
        for path, value in (rule.get("set") or {}).items():
            parts = path.split(".")
            inside = copies.get(parts[1], ()) if parts[0] == "stages" and len(parts) > 2 else ()
            paths = [".".join(["stages", name, *parts[2:]]) for name in inside] or [path]
            spread |= {one: copy.deepcopy(value) for one in paths}
        if spread:
            rule["set"] = spread
    return out
