"""Choosing by measurement: the best value of a sweep, the best arm. Pure.

By the metric that `select` names, on the development data that the stage itself looks at; the suites that judge are
never asked. Equal values go to the first. What diverged or was stopped is not eligible.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bloomery.engine.evidence import Evidence, Missing
from bloomery.engine.intervals import exact_mean
from bloomery.measure import Emitted, Measurement
from bloomery.plan.schema import Select


@dataclass(frozen=True, slots=True)
class Choice:
    """`index` among those offered; None where nobody is eligible. `values`: of each, None where it has none."""

    index: int | None
    values: tuple[float | None, ...]
    metric: str
    better: str

    def to_json(self) -> dict[str, Any]:
        return {"metric": self.metric, "better": self.better, "values": list(self.values), "index": self.index}


def choose(
    select: Select,
    offered: Sequence[Sequence[Measurement]],
    declared: Mapping[str, Emitted],
    *,
    seeds: Collection[int] | None = None,
) -> Choice:
    """`offered`: what each of those to choose from measured, all under one party's name; an empty one cannot win.

    The value is the mean over seeds. seeds: those that each must have.
    """
    metric = select.lowest if select.lowest is not None else select.highest
    assert metric is not None
    values = tuple(_value(metric, measured, declared, seeds) for measured in offered)
    sign = 1 if select.lowest is not None else -1
    eligible = [(sign * value, index) for index, value in enumerate(values) if value is not None]
    return Choice(
        min(eligible)[1] if eligible else None, values, metric, "lower" if select.lowest is not None else "higher"
    )


def _value(
    metric: str, measured: Sequence[Measurement], declared: Mapping[str, Emitted], seeds: Collection[int] | None
) -> float | None:
    if not measured:
        return None
    try:
        found = Evidence(measured, declared).by_seed(measured[0].who, metric, seeds)
    except Missing:
        return None
    return exact_mean([one.value for one in found.values()])
