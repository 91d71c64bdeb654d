"""Conditions, rules and controls in words: what a registration predicts, and what reports say beside a verdict."""

from __future__ import annotations

from bloomery.plan import metrics
from bloomery.plan.schema import AnyOf, Condition, Control, Rule, StageSpec
from bloomery.plan.units import format_bytes, format_seconds


def words(condition: Condition | AnyOf) -> str:
    """`text/loss, candidate minus control, <= 0 (mean over seeds)`; of an `any`, its members joined by `or`."""
    if isinstance(condition, AnyOf):
        return "any of: " + "; or ".join(words(member) for member in condition.any)
    party = condition.of
    if condition.relative_to is None:
        whose = "" if party == "candidate" else f", {party},"
    else:
        relation = "minus" if condition.as_ == "difference" else "divided by"
        whose = f", {party} {relation} {condition.relative_to},"
    seeds = "worst seed" if condition.aggregate == "worst" else "mean over seeds"
    notes = [seeds]
    if condition.confidence is not None:
        notes.append(f"one-sided {percent(condition.confidence)} bound")
    if condition.after is not None:
        notes.append(f"after {percent(condition.after)} of the stage")
    return f"{condition.metric}{whose} {condition.op} {value_words(condition)} ({', '.join(notes)})"


def value_words(condition: Condition) -> str:
    """The condition's value, in the unit of its metric."""
    value = condition.value
    if condition.relative_to is None or condition.as_ == "difference":
        unit = metrics.unit(condition.metric)
        if unit == "bytes" and value == int(value) and value >= 0:
            return format_bytes(int(value))
        if unit == "seconds" and value >= 0:
            return format_seconds(value)
        if unit == "money":
            return f"{number(value)} USD"
    return number(value)


def rule_words(stage: StageSpec, rule: Rule) -> str:
    """`pretrain, plateau: if train/plateau >= 1 ..., retry from the checkpoint with schedule.name = ...: because`"""
    when = " and ".join(words(condition) for condition in rule.when)
    if set(rule.verdict) != {"fail", "inconclusive", "missing"}:
        verdict = "the verdict is " + " or ".join(rule.verdict)
        when = f"{verdict} and {when}" if when else verdict
    if rule.then == "stop":
        action = "stop"
    elif rule.then == "go_on":
        action = "go on, the gate stays failed"
    else:
        changes = ", ".join(f"{path} = {plain(value)}" for path, value in rule.set.items())
        again = "go on from the checkpoint" if rule.from_ == "checkpoint" else "retry"
        times = f", up to {rule.max_attempts} times" if rule.max_attempts > 1 else ""
        action = f"{again} with {changes}{times}"
    return f"{stage.id}, {rule.name}: {f'if {when}, ' if when else ''}{action} ({rule.because})"


def control_words(control: Control | None) -> str:
    """`dense twin with as many stored parameters, within 2%; optimizer.lr = 0.06`"""
    if control is None:
        return "none"
    what = {
        "stored": "as many stored parameters",
        "active": "as many active parameters",
        "flops": "as many operations per token",
        "bytes": "as many bytes",
    }[control.match]
    changes = "".join(f"; {path} = {plain(value)}" for path, value in control.set.items())
    return f"{control.twin} twin with {what}, within {percent(control.tolerance)}, on the same tokens{changes}"


def plain(value: object) -> str:
    """A patched value, short."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(plain(item) for item in value) + "]"
    return str(value)


def number(value: float) -> str:
    """The shortest exact form: 1.0 is 1."""
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def percent(share: float) -> str:
    return f"{round(share * 100, 6):g}%"
