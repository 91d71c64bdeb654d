"""What a run costs: prices before it starts, and a ledger of planned and spent that stops it when a cap is exceeded.

A price: seconds = flops / (peak x utilisation), kWh = watts x hours / 1000, money = rent per hour, or electricity where
the device is owned. It is a plan, not a promise. The ledger counts what the events count, so a resumed run keeps its
spending: `spent` lines are increments, `budget_spent` lines totals, and the larger of the two is believed. Memory and
disk are not spent but held (see gauge.py): their caps are about this process and the folder as it is. Seconds are
those of the machine: cells that run side by side share them (`shared_seconds` of a `spent` line).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bloomery.engine.devices import Device
from bloomery.engine.events import FAULTS, illegible
from bloomery.engine.stage import Cost
from bloomery.plan.schema import Budget
from bloomery.plan.units import format_bytes

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Amounts:
    """tokens, flops, seconds of work, US dollars, kWh. Added field by field."""

    tokens: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    money: float = 0.0
    kwh: float = 0.0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(getattr(self, name) + getattr(other, name) for name in AMOUNTS))

    def at_least(self, other: Amounts) -> Amounts:
        return Amounts(*(max(getattr(self, name), getattr(other, name)) for name in AMOUNTS))

    def to_json(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in AMOUNTS}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Amounts:
        return Amounts(**{name: float(data.get(name) or 0.0) for name in AMOUNTS})


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes: of the whole run, and of one stage's own."""

    run: float
    stage: float


AMOUNTS = tuple(one.name for one in fields(Amounts))


@dataclass(frozen=True, slots=True)
class Price:
    """What one cell (one seed of one party) is expected to take on a device; peaks are of that cell alone."""

    amounts: Amounts
    memory_bytes: float
    disk_bytes: float
    fits: bool
    """In the device's memory."""

    @property
    def hours(self) -> float:
        return self.amounts.seconds / SECONDS_PER_HOUR


def price(cost: Cost, device: Device, *, dtype: str = "bf16") -> Price:
    """Seconds from the cost itself where the kind knows them, else from its flops."""
    seconds = cost.seconds if cost.seconds is not None else cost.flops / device.flops_per_second(dtype)
    return Price(
        running(device, seconds) + Amounts(tokens=cost.tokens, flops=cost.flops, seconds=seconds),
        cost.memory_bytes,
        cost.disk_bytes,
        cost.memory_bytes <= device.memory,
    )


def running(device: Device, seconds: float) -> Amounts:
    """Money and kWh of having a device at work for so long."""
    hours = seconds / SECONDS_PER_HOUR
    kwh = hours * device.watts / 1000
    rent = device.usd_per_hour
    return Amounts(money=hours * rent if rent is not None else kwh * device.usd_per_kwh, kwh=kwh)


def total(prices: Iterable[Price]) -> Price:
    """All cells, one after another: amounts and disk add up, memory is the peak."""
    several = tuple(prices)
    return Price(
        sum((one.amounts for one in several), Amounts()),
        max((one.memory_bytes for one in several), default=0.0),
        sum(one.disk_bytes for one in several),
        all(one.fits for one in several),
    )


def overruns(planned: Price, caps: Budget) -> tuple[str, ...]:
    """Caps that the plan itself will not keep, in words; a warning, as prices are estimates."""
    out = list(_over(planned.amounts, caps, "planned"))
    for what, amount, cap in (("memory", planned.memory_bytes, caps.memory), ("disk", planned.disk_bytes, caps.disk)):
        if cap is not None and amount > cap:
            out.append(f"{what}: about {about_bytes(amount)} planned, the cap is {format_bytes(cap)}")
    return tuple(out)


@dataclass(slots=True)
class Ledger:
    """Planned and spent, of the whole run and by stage. It changes as a run goes on; it is rebuilt from the events."""

    caps: Budget = field(default_factory=Budget)
    stage_caps: Mapping[str, Budget] = field(default_factory=dict[str, Budget])
    device: Device | None = None
    """Gives seconds a price; without it money is only what is spent by name."""
    planned: Amounts = Amounts()
    _total: Amounts = Amounts()
    _by_stage: dict[str, Amounts] = field(default_factory=dict[str, Amounts])
    _held: dict[str, float] = field(default_factory=dict[str, float])
    _held_by_stage: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])

    @staticmethod
    def restore(
        caps: Budget,
        events: Iterable[Mapping[str, Any]],
        *,
        stage_caps: Mapping[str, Budget] | None = None,
        device: Device | None = None,
        file: str | Path = "events.jsonl",
    ) -> Ledger:
        """The ledger that a run's events leave behind. Raises ArtifactError with the line of `file` at fault."""
        ledger = Ledger(caps, stage_caps or {}, device)
        floor = Amounts()
        for line, event in enumerate(events, start=1):
            if event["event"] not in ("budget_planned", "spent", "budget_spent"):
                continue
            try:
                amounts = Amounts.from_json({**event, "seconds": event.get("shared_seconds", event.get("seconds"))})
            except FAULTS as error:
                raise illegible(event, f"{file}:{line}", error) from error
            if event["event"] == "budget_planned":
                ledger.planned = amounts
            elif event["event"] == "spent":
                ledger.spend(stage=str(event.get("stage", "")), **amounts.to_json())
            else:
                floor = floor.at_least(amounts)
        ledger._total = ledger._total.at_least(floor)
        return ledger

    def spend(
        self,
        *,
        stage: str = "",
        tokens: float = 0,
        flops: float = 0,
        seconds: float = 0,
        money: float = 0,
        kwh: float = 0,
    ) -> None:
        """Add. Seconds bring the device's money and kWh with them, unless those are given."""
        spent = Amounts(tokens, flops, seconds, money, kwh)
        if self.device is not None and not money and not kwh:
            spent += running(self.device, seconds)
        self._total += spent
        if stage:
            self._by_stage[stage] = self._by_stage.get(stage, Amounts()) + spent

    def hold(self, stage: str, *, memory: Held | None = None, disk: Held | None = None) -> None:
        """What is held now; of memory the peak."""
        for what, held in (("memory", memory), ("disk", disk)):
            if held is not None:
                self._held[what], self._held_by_stage[stage, what] = held.run, held.stage

    @property
    def spent(self) -> dict[str, float]:
        """{tokens, flops, seconds, money, kwh}, and the bytes held: what a `budget_spent` event says."""
        return self._total.to_json() | {f"{what}_bytes": held for what, held in self._held.items()}

    def spent_in(self, stage: str) -> Amounts:
        return self._by_stage.get(stage, Amounts())

    def exceeded(self, stage: str = "") -> str | None:
        """The first cap that is exceeded, of the run or of this stage, in words; None while there is room."""
        for reason in (*_over(self._total, self.caps, "spent"), *_over_held(self._held, self.caps)):
            return reason
        if stage in self.stage_caps:
            caps, own = self.stage_caps[stage], self.spent_in(stage)
            held = {what: size for (of, what), size in self._held_by_stage.items() if of == stage}
            for reason in (*_over(own, caps, "spent"), *_over_held(held, caps)):
                return f"stage {stage}: {reason}"
        return None


def _over(amounts: Amounts, caps: Budget, verb: str) -> Iterable[str]:
    for what, amount, cap, unit in (
        ("wall", amounts.seconds, caps.wall, "s"),
        ("tokens", amounts.tokens, caps.tokens, "tokens"),
        ("flops", amounts.flops, caps.flops, "FLOPs"),
        ("money", amounts.money, caps.money, "USD"),
    ):
        if cap is not None and amount > cap:
            yield f"{what}: {amount:,.6g} {unit} {verb}, the cap is {cap:,.6g} {unit}"


def _over_held(held: Mapping[str, float], caps: Budget) -> Iterable[str]:
    for what, cap, where in (("memory", caps.memory, "at the peak"), ("disk", caps.disk, "in the run folder")):
        if cap is not None and (size := held.get(what, 0.0)) > cap:
            yield f"{what}: {about_bytes(size)} {where}, the cap is {format_bytes(cap)}"


def about_bytes(amount: float) -> str:
    """To three digits: `3.42 GiB`."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if amount >= size:
            return f"{amount / size:.3g} {unit}"
    return f"{amount:.0f} B"
