"""Claims: supported, refuted or undecided, on the evidence that a finished run has left.

Supported if the gate passes, refuted if it fails; otherwise, or where `valid_if` does not pass, or the stage never ran,
undecided, with what it would take. Claims decide nothing in the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bloomery.engine import gate as gates
from bloomery.engine import verdict as verdicts
from bloomery.engine.attempt import Attempt
from bloomery.engine.evidence import Cast
from bloomery.engine.gathering import gather
from bloomery.engine.handing import Outputs
from bloomery.engine.verdict import ConditionResult, Verdict
from bloomery.measure import Emitted, Measurement
from bloomery.plan.cast import as_of_stage, claimed_stage, conditions_of, conditions_of_claim
from bloomery.plan.schema import AnyOf, Claim, Condition, Gate

Status = Literal["supported", "refuted", "undecided"]
STATUSES: Mapping[str, Status] = {"pass": "supported", "fail": "refuted"}


@dataclass(frozen=True, slots=True)
class Answer:
    claim: Claim
    status: Status
    verdict: Verdict
    valid: Verdict | None = None
    reason: str = ""
    would_need: str = ""
    """What would decide it: items, seeds, a stage, a control."""

    def to_json(self) -> dict[str, Any]:
        claim = self.claim
        of = next(iter({condition.of: None for condition in conditions_of_claim(claim)}), "")
        out: dict[str, Any] = {
            "id": claim.id, "says": claim.says, "source": claim.source, "rows": list(claim.rows), "of": of,
            "status": self.status, "reason": self.reason, "would_need": self.would_need,
            "verdict": self.verdict.to_json(),
        }  # fmt: skip
        return out if self.valid is None else {**out, "valid": self.valid.to_json()}


def answer(claim: Claim, attempts: Mapping[str, Attempt | int], handed: Mapping[str, Outputs]) -> Answer:
    """`attempts`: of each stage, by the id that the plan's author wrote, its last own attempt; of a loop the number of
    its cycles. handed: by every stage, at the end. Raises Stopped."""
    absent = [one.stage for one in map(claimed_stage, conditions_of_claim(claim)) if one and one.stage not in attempts]
    if absent:
        stage = absent[0]
        return Answer(claim, "undecided", Verdict("missing"), reason=f"stage {stage} did not run",
                      would_need=f"a run that reaches stage {stage}")  # fmt: skip
    found = {stage: _Found.of(attempts[stage], handed) for stage in _stages(claim)}
    valid = _judge(claim.valid_if, found) if claim.valid_if else None
    verdict = _judge(claim.gate, found)
    if valid is not None and not valid.passed:
        needed = _needed(valid, "a case in which ")
        return Answer(claim, "undecided", verdict, valid, f"valid_if: {_why(valid)}", needed)
    status = STATUSES.get(verdict.status, "undecided")
    if status != "undecided":
        return Answer(claim, status, verdict, valid)
    return Answer(claim, status, verdict, valid, _why(verdict), _needed(verdict))


def _stages(claim: Claim) -> dict[str, None]:
    """The stages that it speaks of, each once, in order."""
    return {one.stage: None for one in map(claimed_stage, conditions_of_claim(claim)) if one is not None}


@dataclass(frozen=True, slots=True)
class _Found:
    """What is known of one stage."""

    evidence: list[Measurement]
    declared: Mapping[str, Emitted]
    seeds: tuple[int, ...] | None = None
    cast: Cast | None = None

    @staticmethod
    def of(attempt: Attempt | int, handed: Mapping[str, Outputs]) -> _Found:
        if isinstance(attempt, int):
            return _Found([Measurement("repeat/cycles", attempt)], {"repeat/cycles": Emitted()})
        return _Found(gather(attempt, handed), attempt.declared(), attempt.seeds, attempt.cast)


def _judge(gate: Gate, found: Mapping[str, _Found]) -> Verdict:
    """Every entry on the evidence of the stage that it speaks of. The worst decides, as in any gate."""
    results: list[ConditionResult] = []
    statuses: list[verdicts.Status] = []
    for entry in gate:
        stage = claimed_stage(next(conditions_of((entry,))))
        assert stage is not None
        here = found[stage.stage]
        verdict = gates.judge((_of_stage(entry),), here.evidence, here.declared, seeds=here.seeds, cast=here.cast)
        results += verdict.conditions
        statuses.append(verdict.status)
    return Verdict(gates.worst(statuses), tuple(results))


def _of_stage(entry: Condition | AnyOf) -> Condition | AnyOf:
    if isinstance(entry, AnyOf):
        return entry.model_copy(update={"any": tuple(as_of_stage(one) for one in entry.any)})
    return as_of_stage(entry)


def _why(verdict: Verdict) -> str:
    open_ones = [one for one in verdict.conditions if one.status != "pass"]
    return "; ".join(f"{one.words} ({one.reason})" if one.reason else one.words for one in open_ones)


def _needed(verdict: Verdict, instead: str = "") -> str:
    return "; ".join(dict.fromkeys(_needs(verdict, instead)))


def _needs(verdict: Verdict, instead: str) -> Iterator[str]:
    for one in verdict.conditions:
        if one.status == "missing":
            both = f"{one.of} and {one.relative_to}" if one.relative_to else one.of
            yield f"a measurement of {one.metric} of {both}" + (f" ({one.reason})" if one.reason else "")
        elif one.status == "fail" and instead:
            asked = one.condition
            yield f"{instead}{one.metric} of {one.of} is {asked.op} {asked.value:.6g}"
        elif one.status == "inconclusive":
            yield more_evidence(one)


def more_evidence(result: ConditionResult) -> str:
    """How many items or seeds would decide, if what was found stays as it is: an interval narrows with sqrt(n)."""
    bound, value, n = result.bound, result.value, result.n or 0
    seeds = len(result.seeds)
    if bound is None or value is None:
        return "items, or three seeds that differ"
    distance = abs(value - result.condition.value)
    half = max(bound.high - value, value - bound.low)
    if distance == 0 or not math.isfinite(half / distance):
        return "no number of items: what was found lies on the threshold"
    times = (half / distance) ** 2
    items = f"about {math.ceil(n * times):,} items (there were {n:,})" if n > 1 else ""
    more = f"about {math.ceil(seeds * times):,} seeds (there were {seeds})"
    return f"{items}, or {more}" if items else more
