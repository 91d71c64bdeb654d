"""Judging: a gate, the evidence and what was declared give a Verdict. Pure; it knows no files, runs or stages.

It fails closed. A metric that is not measured, not declared, not finite, or that stands in a ratio to zero or less is
*missing*; so is a `*` that matches nothing. With `confidence` the one-sided bound must clear the value; where the other
bound misses too it is *fail*, else *inconclusive*, and so it is where there is no interval at all.
The law is docs/plan.md, "Verdicts"; the intervals are those of engine.intervals.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from bloomery.engine.estimate import Sample, alone, check_ratio, pair_up
from bloomery.engine.evidence import TO_REFERENCE, Cast, Evidence, Missing
from bloomery.engine.intervals import exact_mean
from bloomery.engine.reaching import tokens_to_reference
from bloomery.engine.verdict import ConditionResult, Finding, Status, Verdict, sentence
from bloomery.measure import Emitted, Interval, Measurement
from bloomery.plan.schema import AnyOf, Condition, Gate

OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
WORST_FIRST: Final[tuple[Status, ...]] = ("fail", "missing", "inconclusive", "pass")
READERS_LEVEL: Final = 0.95


def judge(
    gate: Gate,
    evidence: Sequence[Measurement],
    declared: Mapping[str, Emitted],
    *,
    seeds: Collection[int] | None = None,
    cast: Cast | None = None,
) -> Verdict:
    """The verdict on a gate. `declared`: full metric names, in which a `*` segment stands for any one.

    seeds: those that candidate, control and arms must have; else the ones that each has any evidence of.
    cast: which arm is the candidate, and which arms there are; without it the candidate has no arms.
    """
    index = Evidence(evidence, declared, cast)
    results: list[ConditionResult] = []
    statuses: list[Status] = []
    for place, entry in enumerate(gate):
        if isinstance(entry, AnyOf):
            members = [
                _judge_condition(one, index, seeds, _divided(one.confidence, len(entry.any)), place)
                for one in entry.any
            ]
            statuses.append(_best(worst(result.status for result in member) for member in members))
            results += [result for member in members for result in member]
        else:
            found = _judge_condition(entry, index, seeds, entry.confidence, None)
            statuses.append(worst(result.status for result in found))
            results += found
    return Verdict(worst(statuses), tuple(results))


def failed(verdict: Verdict, reason: str) -> Verdict:
    """The verdict on a stage that could not be carried out to its end: fail, whatever its partial evidence says."""
    return replace(verdict, status="fail", reason=reason)


def worst(statuses: Iterable[Status]) -> Status:
    """Of a list in which all must pass; an empty one passes."""
    found = set(statuses)
    for status in WORST_FIRST:
        if status in found:
            return status
    return "pass"


def _best(statuses: Iterable[Status]) -> Status:
    """Of alternatives: one that might have passed, had it been measured or surer, keeps the whole from failing."""
    found = set(statuses)
    return next(status for status in reversed(WORST_FIRST) if status in found)


def _divided(confidence: float | None, members: int) -> float | None:
    """Bonferroni: the chance of a wrong pass is shared by all members."""
    return None if confidence is None else 1 - (1 - confidence) / members


def _judge_condition(
    condition: Condition,
    index: Evidence,
    seeds: Collection[int] | None,
    confidence: float | None,
    alternative: int | None,
) -> list[ConditionResult]:
    """One result for every party, metric and reference that the condition's `*` stand for."""
    if condition.of.endswith(":*"):
        try:
            parties = index.parties(condition.of, condition.metric, "")
        except Missing as error:
            return [_missing(condition, condition.metric, condition.relative_to, confidence, alternative, str(error))]
        each = [condition.model_copy(update={"of": party}) for party in parties]
        return [result for one in each for result in _judge_condition(one, index, seeds, confidence, alternative)]

    def missing(metric: str, reference: str | None, reason: str) -> ConditionResult:
        return _missing(condition, metric, reference, confidence, alternative, reason)

    try:
        metrics = index.metrics(condition.of, condition.metric)
    except Missing as error:
        return [missing(condition.metric, condition.relative_to, str(error))]
    results: list[ConditionResult] = []
    for metric in metrics:
        references: tuple[str | None, ...] = (condition.relative_to,)
        try:
            if condition.relative_to is not None:
                references = index.parties(condition.relative_to, metric, condition.of)
        except Missing as error:
            results.append(missing(metric, condition.relative_to, str(error)))
            continue
        for reference in references:
            better = _better(condition, index.emitted(metric))
            try:
                sample = _sample(condition, index, seeds, metric, reference)
                results.append(_decide(condition, sample, metric, reference, confidence, alternative, better))
            except Missing as error:
                results.append(missing(metric, reference, str(error)))
            except ArithmeticError:
                results.append(missing(metric, reference, "numbers too large or too small to be reckoned with"))
    return results


def _missing(
    condition: Condition,
    metric: str,
    reference: str | None,
    confidence: float | None,
    alternative: int | None,
    reason: str,
) -> ConditionResult:
    return ConditionResult(
        condition, "missing", metric, condition.of, reference,
        confidence=confidence, alternative=alternative, reason=reason,
        words=sentence(condition, metric, reference, confidence) + ": missing",
    )  # fmt: skip


def _sample(
    condition: Condition, index: Evidence, seeds: Collection[int] | None, metric: str, reference: str | None
) -> Sample:
    if not math.isfinite(condition.value):
        raise Missing(f"the condition's value is {condition.value}")
    if reference is not None and metric.endswith(TO_REFERENCE):
        required = (_seeds_of(condition.of, seeds), _seeds_of(reference, seeds))
        return tokens_to_reference(condition, index, metric.removesuffix(TO_REFERENCE), reference, required)
    judged = index.by_seed(condition.of, metric, _seeds_of(condition.of, seeds))
    emitted = index.emitted(metric)
    unit = emitted.unit if emitted else ""
    if reference is None:
        return Sample(alone(judged), condition.as_, unit)
    others = index.by_seed(reference, metric, _seeds_of(reference, seeds))
    pairs = pair_up(judged, others, reference, may_share=reference.startswith(("baseline:", "stage:")))
    if condition.as_ == "ratio":
        check_ratio(pairs, reference)
    return Sample(pairs, condition.as_, unit)


def _seeds_of(who: str, seeds: Collection[int] | None) -> Collection[int] | None:
    return seeds if who in ("candidate", "control") or who.startswith("arm:") else None


def _better(condition: Condition, emitted: Emitted | None) -> str:
    if emitted is not None and emitted.better:
        return emitted.better
    return {"<": "lower", "<=": "lower", ">": "higher", ">=": "higher"}.get(condition.op, "")


def _decide(
    condition: Condition,
    sample: Sample,
    metric: str,
    reference: str | None,
    confidence: float | None,
    alternative: int | None,
    better: str,
) -> ConditionResult:
    values = sample.values
    value = exact_mean(values) if condition.aggregate == "mean" else _worst_value(condition, values)
    if not all(map(math.isfinite, (value, *values))):
        raise OverflowError
    interval = _interval(condition, sample, READERS_LEVEL)
    bound: Interval | None = None
    if confidence is None:
        passes = OPERATORS[condition.op](value, condition.value)
        status: Status = "pass" if passes else "fail"
        reason = "" if passes else f"{value:.6g} is not {condition.op} {condition.value:.6g}"
    elif not 0.5 < confidence < 1:
        status, reason = "inconclusive", f"no bound can be had at a confidence of {confidence:.6g}"
    else:
        bound = _interval(condition, sample, 2 * confidence - 1)
        status, reason = _clears(condition, bound, sample)
    finding = "" if reference is None else _finding(condition, value, interval, status, better)
    seeds = tuple(pair.seed for pair in sample.pairs)
    references = [pair.reference for pair in sample.pairs if pair.reference is not None]
    return ConditionResult(
        condition, status, metric, condition.of, reference,
        value=value,
        interval=interval,
        bound=bound,
        n=sample.n,
        seeds=seeds,
        values=values,
        candidate=exact_mean([pair.judged.value for pair in sample.pairs]),
        reference=exact_mean([one.value for one in references]) if references else None,
        comparison=finding,
        confidence=confidence,
        alternative=alternative,
        words=f"{sentence(condition, metric, reference, confidence)}: "
        f"{_found(value, interval, sample)}, {finding or status}",
        reason="; ".join(part for part in (reason, _tied(sample, interval), _shared(sample, references)) if part),
    )  # fmt: skip


def _interval(condition: Condition, sample: Sample, level: float) -> Interval | None:
    """None where there is none of finite width."""
    found = sample.mean_interval(level) if condition.aggregate == "mean" else _worst_interval(condition, sample, level)
    return found if found is not None and math.isfinite(found.high - found.low) else None


def _worst_interval(condition: Condition, sample: Sample, level: float) -> Interval | None:
    """For the worst seed, which is no better than any seed's bound."""
    each = sample.seed_intervals(level)
    if each is None:
        return None
    if condition.op in ("==", "!="):
        return each[sample.values.index(_worst_value(condition, sample.values))]
    extreme = max if condition.op in ("<", "<=") else min
    return Interval(extreme(one.low for one in each), extreme(one.high for one in each), min(one.level for one in each))


def _worst_value(condition: Condition, values: Sequence[float]) -> float:
    if condition.op in ("<", "<="):
        return max(values)
    if condition.op in (">", ">="):
        return min(values)
    farthest = max if condition.op == "==" else min
    return farthest(sorted(values), key=lambda value: abs(value - condition.value))


def _clears(condition: Condition, bound: Interval | None, sample: Sample) -> tuple[Status, str]:
    """Pass if every value up to the bound would pass, fail if none in the interval would, else inconclusive."""
    if bound is None:
        seeds = len(sample.pairs)
        return "inconclusive", (
            f"no interval can be had from {seeds} seed{'s' if seeds > 1 else ''} and n of {sample.n}: it takes items, "
            "or three seeds for a mean, that vary"
        )
    wanted, holds = condition.value, OPERATORS[condition.op]
    at_low, at_high, inside = holds(bound.low, wanted), holds(bound.high, wanted), bound.low <= wanted <= bound.high
    shown = f"[{bound.low:.6g}, {bound.high:.6g}]"
    if condition.op == "==":
        return ("inconclusive", f"{shown} holds other values too") if inside else ("fail", f"{shown} leaves it out")
    if condition.op == "!=":
        return ("inconclusive", f"{shown} holds {wanted:.6g}") if inside else ("pass", "")
    if at_low and at_high:
        return "pass", ""
    if at_low or at_high:
        return "inconclusive", f"one end of {shown} is not {condition.op} {wanted:.6g}"
    return "fail", f"all of {shown} is not {condition.op} {wanted:.6g}"


def _finding(condition: Condition, value: float, interval: Interval | None, status: Status, better: str) -> Finding:
    equality = 1.0 if condition.as_ == "ratio" else 0.0
    if not better:
        return ""
    sign = 1 if better == "lower" else -1
    if interval is not None:
        ends = sorted((sign * (interval.low - equality), sign * (interval.high - equality)))
        if ends[1] < 0:
            return "better"
        if ends[0] > 0:
            return "worse"
        return "not worse" if status == "pass" else "undecided"
    not_worse = status == "pass" and sign * (value - equality) <= 0
    return "not worse" if not_worse else "undecided"


def _found(value: float, interval: Interval | None, sample: Sample) -> str:
    seeds = len(sample.pairs)
    shown = "" if interval is None else f" [{interval.low:.6g}, {interval.high:.6g}]"
    return f"{value:.6g}{shown} over {seeds} seed{'s' if seeds > 1 else ''} and n of {sample.n}"


def _tied(sample: Sample, interval: Interval | None) -> str:
    if interval is not None or not sample.tied:
        return ""
    return f"both are alike to the last bit on all {sample.n} items, which cannot tell the two apart"


def _shared(sample: Sample, references: Sequence[Measurement]) -> str:
    shared = len(references) > 1 and all(one is references[0] for one in references)
    return "the reference has one seed: how it varies between seeds is not in the interval" if shared else ""
