"""Value types that every part of Bloomery speaks: Interval, Items, Measurement, Group and Tally. No torch here.

A Measurement is a fact: whose value it is, under which name, on how many items, for which seed. Gates judge nothing
else. Values are frozen; `to_json` and `from_json` are exact inverses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval that covers with probability `level` (0.95, not 95)."""

    low: float
    high: float
    level: float = 0.95


@dataclass(frozen=True, slots=True)
class Items:
    """What a mean was taken over, so that two means over the same items can be paired.

    The value is sum(sums) / sum(weights). For a loss an item is a document, its sum is nats and its weight tokens.
    `key` identifies the items and their order: Items with different keys are never paired.
    """

    key: str
    sums: tuple[float, ...]
    weights: tuple[float, ...]
    exponential: bool = False
    """The value is exp of that mean: a perplexity, of a loss's items."""

    def __post_init__(self) -> None:
        if len(self.sums) != len(self.weights):
            raise ValueError(f"{len(self.sums)} sums but {len(self.weights)} weights")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measured value. `who`: candidate, control, baseline:X, arm:X or stage:ID. Losses are nats per token."""

    name: str
    value: float
    n: int = 1
    interval: Interval | None = None
    seed: int | None = None
    unit: str = ""
    who: str = "candidate"
    step: int | None = None
    items: Items | None = None
    tokens: int | None = None
    """Of a look inside a stage: how many tokens had been learned from by then."""

    def to_json(self) -> dict[str, Any]:
        """JSON with only what differs from the defaults; non-finite values become strings, as JSON has none."""
        out: dict[str, Any] = {"name": self.name, "value": _number(self.value), "n": self.n, "who": self.who}
        if self.interval is not None:
            out["interval"] = [_number(self.interval.low), _number(self.interval.high), self.interval.level]
        for key in ("seed", "step", "tokens"):
            if getattr(self, key) is not None:
                out[key] = getattr(self, key)
        if self.unit:
            out["unit"] = self.unit
        if self.items is not None:
            exponential = {"exponential": True} if self.items.exponential else {}
            out["items"] = {
                "key": self.items.key,
                "sums": [_number(value) for value in self.items.sums],
                "weights": [_number(value) for value in self.items.weights],
                **exponential,
            }
            if self.items.exponential:
                out["items"]["exponential"] = True
        return out

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Measurement:
        interval, items = data.get("interval"), data.get("items")
        return Measurement(
            name=data["name"],
            value=float(data["value"]),
            n=int(data.get("n", 1)),
            interval=Interval(float(interval[0]), float(interval[1]), float(interval[2])) if interval else None,
            seed=data.get("seed"),
            unit=data.get("unit", ""),
            who=data.get("who", "candidate"),
            step=data.get("step"),
            tokens=data.get("tokens"),
            items=_items(items) if items else None,
        )


def _items(data: Mapping[str, Any]) -> Items:
    sums, weights = (tuple(float(value) for value in data[name]) for name in ("sums", "weights"))
    return Items(data["key"], sums, weights, bool(data.get("exponential", False)))


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)


@dataclass(frozen=True, slots=True)
class Emitted:
    """What a kind or suite promises to measure: the unit and the better direction (`lower`, `higher` or neither)."""

    unit: str = ""
    better: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that belong together (embedding, attention, feed_forward, norm, head...), counted in numbers.

    stored: written to disk; active: touched per token (an embedding's rows do not all count as compute, see
    `flops_per_token`); frozen: stored but never trained; buffers: kept beside the weights, not learned.
    bits: per stored number, as deployed. flops_per_token: forward, a multiply-add counted as two.
    """

    stored: int
    active: int
    frozen: int = 0
    buffers: int = 0
    bits: float = 32.0
    flops_per_token: float = 0.0

    @property
    def bytes(self) -> float:
        return self.stored * self.bits / 8


@dataclass(frozen=True, slots=True)
class Tally:
    """A model counted by group. The closed form (config) and the module count must give equal Tallies."""

    groups: Mapping[str, Group] = field(default_factory=dict)
    dense_equivalent: int | None = None
    """A claim, in a column of its own: parameters of the same shape stored densely. Used in no budget."""

    def total(self, quantity: str) -> float:
        """Sum of `stored`, `active`, `frozen`, `trainable`, `buffers`, `bytes` or `flops_per_token`."""
        if quantity == "trainable":
            return self.total("stored") - self.total("frozen")
        return sum(getattr(group, quantity) for group in self.groups.values())

    @property
    def stored(self) -> int:
        return int(self.total("stored"))

    @property
    def bytes(self) -> float:
        return self.total("bytes")

    @property
    def flops_per_token(self) -> float:
        return self.total("flops_per_token")

    def to_json(self) -> dict[str, Any]:
        names = Group.__slots__
        groups = {name: {key: getattr(group, key) for key in names} for name, group in self.groups.items()}
        return {"groups": groups, "dense_equivalent": self.dense_equivalent}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Tally:
        groups = {name: Group(**group) for name, group in data["groups"].items()}
        return Tally(groups, data.get("dense_equivalent"))
