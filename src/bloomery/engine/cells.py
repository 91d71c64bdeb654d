"""What a stage's attempt consists of, decided from the plan alone: which parties, which suites, which fingerprint.

A fingerprint covers the kind, its resolved settings, the digests of inputs and data, the seed and the system's source;
never device, path or worker count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bloomery.engine.gate import conditions_of
from bloomery.plan.canon import digest
from bloomery.plan.schema import Condition, Plan, StageSpec

FINGERPRINT_VERSION = 1
"""Raised when the same settings begin to mean something else."""

CANDIDATE, CONTROL = "candidate", "control"


def conditions(stage: StageSpec) -> Iterator[Condition]:
    """Every condition of the gate, the rules and `stop_if`."""
    yield from conditions_of(stage.gate)
    for rule in stage.on_fail:
        yield from conditions_of(rule.when)
    yield from stage.stop_if


def named(stage: StageSpec) -> set[str]:
    """Whom the stage's conditions speak of: control, baseline:X, stage:ID, arm:X."""
    parties: set[str] = set()
    for condition in conditions(stage):
        parties.add(condition.of)
        if condition.relative_to:
            parties.add(condition.relative_to)
    return parties


def stages_with_control(plan: Plan) -> frozenset[str]:
    """The control runs wherever something says `control`, and in the stages before that one."""
    if plan.control is None:
        return frozenset()
    last = -1
    for position, stage in enumerate(plan.stages):
        if CONTROL in named(stage):
            last = position
    return frozenset(stage.id for stage in plan.stages[: last + 1])


def baselines_of(plan: Plan, stage: StageSpec) -> list[str]:
    parties = named(stage)
    if "baseline:*" in parties:
        return list(plan.baselines)
    return [name for name in plan.baselines if f"baseline:{name}" in parties]


def suites_of(plan: Plan, stage: StageSpec, *, gated_only: bool = False) -> list[str]:
    """Suites that conditions name, then those under `evaluate`, each once, in the order of the plan."""
    asked = {condition.metric.split("/", 1)[0] for condition in conditions(stage)}
    if not gated_only:
        asked |= set(stage.evaluate)
    return [name for name in plan.suites if name in asked]


def cell_fingerprint(
    kind: str,
    config: Mapping[str, Any],
    *,
    inputs: Mapping[str, str],
    data: str | None,
    seed: int,
    system: str,
    continue_from: str | None,
) -> str:
    return digest(
        {
            "version": FINGERPRINT_VERSION,
            "kind": kind,
            "config": dict(config),
            "inputs": dict(inputs),
            "data": data,
            "seed": seed,
            "source": source_digest(system),
            "continue_from": continue_from,
        }
    )


@cache
def source_digest(system: str) -> str:
    """sha256 over a bundled system's own source files; a system installed from elsewhere is covered by its name."""
    outer = hashlib.sha256(system.encode())
    folder = Path(__file__).parent.parent / "systems" / system
    for file in sorted(folder.glob("**/*.py")):
        outer.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return outer.hexdigest()
