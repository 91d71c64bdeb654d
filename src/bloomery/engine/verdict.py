"""What a judgement is: a Verdict, and for each condition what was found, how surely, and why.

Four states, never more: pass, fail, inconclusive, missing. Values are frozen; `to_json` is what the events keep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from bloomery.measure import Interval
from bloomery.plan.schema import Condition

Status = Literal["pass", "fail", "inconclusive", "missing"]
Finding = Literal["better", "not worse", "worse", "undecided", ""]


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """One condition, one metric, one reference. A condition with `*` gives one of these for every match."""

    condition: Condition
    status: Status
    metric: str
    """Without `*`."""
    of: str
    relative_to: str | None
    """Without `*`."""
    value: float | None = None
    """What is compared with the condition's value: over seeds, and relative where asked."""
    interval: Interval | None = None
    """Two-sided, 95 %: for the reader."""
    bound: Interval | None = None
    """With `confidence`: the interval whose ends are the one-sided bounds that decided."""
    n: int | None = None
    """Items behind the value, of the seed that has fewest."""
    seeds: tuple[int | None, ...] = ()
    values: tuple[float, ...] = ()
    """Seed by seed, in the order of `seeds`."""
    candidate: float | None = None
    """The judged party's own value, over the same seeds."""
    reference: float | None = None
    comparison: Finding = ""
    """Relative only: `better` when the 95 % interval lies wholly on the better side of equality, `worse` when wholly on
    the other; `not worse` when it does neither and the condition passes; else `undecided`."""
    confidence: float | None = None
    """The condition's, after it is divided among the members of an `any`."""
    alternative: int | None = None
    """The place in the gate of the `any` that this belongs to: it need not pass itself."""
    words: str = ""
    """The condition and what was found, as a sentence."""
    reason: str = ""
    """Why it is not a pass; on a pass, what to know about its interval."""

    def to_json(self) -> dict[str, Any]:
        """JSON with only what is known. `note` is the reason; non-finite values do not occur."""
        out: dict[str, Any] = {
            "condition": self.condition.model_dump(mode="json", by_alias=True, exclude_defaults=True),
            "status": self.status,
            "metric": self.metric,
            "of": self.of,
            "relative_to": self.relative_to,
            "value": self.value,
            "interval": _pair(self.interval),
            "bound": _pair(self.bound),
            "n": self.n,
            "seeds": list(self.seeds),
            "values": list(self.values),
            "candidate": self.candidate,
            "reference": self.reference,
            "comparison": self.comparison,
            "confidence": self.confidence,
            "alternative": self.alternative,
            "words": self.words,
            "note": self.reason,
        }
        return {key: value for key, value in out.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Verdict:
    """The worst of fail, missing, inconclusive, pass over the gate's entries; of an empty gate: pass."""

    status: Status
    conditions: tuple[ConditionResult, ...] = ()
    reason: str = ""
    """Beyond the conditions: what kept the stage from its end."""

    @property
    def passed(self) -> bool:
        return self.status == "pass"

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"status": self.status, "conditions": [one.to_json() for one in self.conditions]}
        return {**out, "reason": self.reason} if self.reason else out


def sentence(condition: Condition, metric: str, reference: str | None, confidence: float | None) -> str:
    """`text/loss of candidate / control <= 1 at 95 % confidence`: the condition, with `*` filled in."""
    between = " / " if condition.as_ == "ratio" else " - "
    whom = condition.of if reference is None else f"{condition.of}{between}{reference}"
    worst = ", worst seed," if condition.aggregate == "worst" else ""
    sure = "" if confidence is None else f" at {100 * confidence:.4g} % confidence"
    return f"{metric} of {whom}{worst} {condition.op} {condition.value:.6g}{sure}"


def _pair(interval: Interval | None) -> list[float] | None:
    if interval is None:
        return None
    assert math.isfinite(interval.high - interval.low), interval
    return [interval.low, interval.high, interval.level]
