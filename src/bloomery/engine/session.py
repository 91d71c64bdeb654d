"""What all parts of a running plan share: its folder, its events, its ledger, its data, and whether it should stop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bloomery.engine.artifact import Artifact
from bloomery.engine.budget import Ledger
from bloomery.engine.discover import Catalogue
from bloomery.engine.events import Event, EventLog
from bloomery.engine.gauge import Gauge
from bloomery.engine.history import Cell, History, identity
from bloomery.engine.stage import StopReason
from bloomery.measure import Measurement

if TYPE_CHECKING:
    from bloomery.engine.executing import Executor

SPENDING_IS_WRITTEN_EVERY_SECONDS = 10.0

Observer = Callable[[Event], None]
"""Is shown every event as it is written, and progress facts ({"event": "progress", ...}), which are not written."""


@dataclass(frozen=True, slots=True)
class Data:
    """The prepared data of a plan."""

    folder: Path
    digest: str
    vocab: int


@dataclass(slots=True)
class Session:
    folder: Path
    catalogue: Catalogue
    log: EventLog
    history: History
    ledger: Ledger
    gauge: Gauge
    data: Data | None
    device: str
    threads: int
    """Of one cell, and of all that is done between cells."""
    precision: str
    """bf16 or fp32: what `precision: auto` means, from the run's first step to its last."""
    executor: Executor
    observe: Observer
    signalled: Callable[[], bool]
    allow_changed: tuple[str, ...] = ()
    force: bool = False
    """Stages run though what they need as `.passed` did not."""
    left_out: frozenset[str] = frozenset()
    """Suites that cannot be measured here, and by which nothing is decided."""
    measured_of: dict[str, tuple[Measurement, ...]] = field(default_factory=dict)
    """{artifact digest: what its own stage measured}, for comparisons with `stage:ID`."""
    adopted: dict[str, Artifact] = field(default_factory=dict)
    packed: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    """{(artifact digest, codec): what it became}, each verified by this process."""
    stage: str = ""
    """The one at work: its own budget counts too."""
    at_once: int = 1
    """How many cells are being worked on."""

    def emit(self, event: str, *, once: bool = False, sync: bool = True, **facts: Any) -> None:
        """Write a fact. `once`: not again if a resumed run has already said exactly this."""
        clean: Event = json.loads(json.dumps({"event": event, **facts}, allow_nan=False, default=str))
        if once and identity(clean) in self.history.seen:
            self.observe({**clean, "repeated": True})
            return
        written = self.log.write(sync=sync, **clean)
        self.history.add(written)
        self.observe(written)

    def remember(self, cell: Cell) -> None:
        """What a cell measured belongs to its artifacts: a comparison with a stage asks for it by digest."""
        for artifact in cell.artifacts(self.folder).values():
            self.measured_of[artifact.digest] = tuple(cell.measurements.values())

    def stop_reason(self) -> StopReason | None:
        if self.signalled():
            return "signal"
        self.gauge.look(self.ledger, self.stage)
        return "budget" if self.ledger.exceeded(self.stage) else None


class Meter:
    """Counts what one cell spends; tells the ledger at once and the events now and then.

    The seconds of cells that run side by side are shared between them in the ledger, whose caps and prices are of the
    machine: two cells in the same minute are one minute of it. A cell's own seconds are told as they are.
    """

    def __init__(self, session: Session, **cell: Any) -> None:
        """cell: its place, `stage` at least; that stage's budget is spent, and the same on every launch."""
        self._session, self._cell = session, cell
        self._clock = self._written = time.monotonic()
        self._unwritten: dict[str, Any] = {"tokens": 0.0, "flops": 0.0, "seconds": 0.0}
        self._shared = 0.0
        """Of the unwritten seconds, those that the ledger counts."""

    def spend(self, *, tokens: float = 0, flops: float = 0) -> None:
        moment = time.monotonic()
        amounts = {"tokens": float(tokens), "flops": float(flops), "seconds": moment - self._clock}
        shared = amounts["seconds"] / self._session.at_once
        self._clock = moment
        self._shared += shared
        self._session.ledger.spend(stage=self._cell["stage"], **amounts | {"seconds": shared})
        for name, amount in amounts.items():
            self._unwritten[name] += amount
        if moment - self._written > SPENDING_IS_WRITTEN_EVERY_SECONDS:
            self.write()

    def write(self) -> None:
        self._session.gauge.look(self._session.ledger, self._session.stage, now=True)
        alone = self._shared == self._unwritten["seconds"]
        facts: dict[str, Any] = self._unwritten if alone else {**self._unwritten, "shared_seconds": self._shared}
        self._session.emit("spent", sync=False, **self._cell, **facts)
        self._unwritten, self._shared = dict.fromkeys(self._unwritten, 0.0), 0.0
        self._written = time.monotonic()
