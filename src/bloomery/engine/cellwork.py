"""One cell from start to seal: its folder, its context, its meter, its artifacts, its facts in the events.

A cell is one seed of one party in one attempt of a stage; a trial of a sweep is a cell too, called PARTY~NUMBER. What a
killed process left half-written is cleared, its checkpoint kept. A cell that cannot go on raises CellFailed. The work
itself is done here or in a worker process; what is told of it goes through Underway in both cases.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bloomery.engine.artifact import Artifact, seal
from bloomery.engine.history import Cell, CellKey
from bloomery.engine.session import Meter, Session
from bloomery.engine.stage import StageContext, StageResult, Stopped, StopReason
from bloomery.engine.watching import Watch
from bloomery.errors import NonFinite
from bloomery.measure import Emitted, Measurement
from bloomery.plan.schema import Condition


class CellFailed(Exception):
    """A cell could not go on: non-finite values, or a `stop_if` that held. The stage's evidence stays incomplete."""

    def __init__(self, why: str, cell: Cell | None = None) -> None:
        super().__init__(why)
        self.cell = cell
        """What it had measured by then."""


@dataclass(frozen=True, slots=True)
class Job:
    """A cell that is to be run: where it belongs, and all that it depends on."""

    stage: str
    attempt: int
    who: str
    seed: int
    fingerprint: str
    system: str
    inputs: Mapping[str, Artifact] = field(default_factory=dict[str, Artifact])
    continue_from: Artifact | None = None
    previous: Mapping[str, float] = field(default_factory=dict[str, float])
    stop_if: Sequence[Condition] = ()
    declared: Mapping[str, Emitted] = field(default_factory=dict[str, Emitted])

    @property
    def place(self) -> dict[str, Any]:
        return {"stage": self.stage, "attempt": self.attempt, "who": self.who, "seed": self.seed}

    @property
    def key(self) -> CellKey:
        return (self.stage, self.attempt, self.who, self.seed)

    def folder(self, run: Path) -> Path:
        return run / self.stage / str(self.attempt) / f"{self.who.replace(':', '-')}-seed{self.seed}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all cells of a run have in common."""

    run: Path
    data: Path | None
    vocab: int
    device: str
    threads: int
    """Of one cell."""
    precision: str
    allow_changed: tuple[str, ...] = ()

    @staticmethod
    def of(session: Session) -> Surroundings:
        data = session.data
        return Surroundings(
            session.folder,
            data.folder if data else None,
            data.vocab if data else 0,
            session.device,
            session.threads,
            session.precision,
            session.allow_changed,
        )


class Teller(Protocol):
    """Takes what a cell tells on its way, and says whether it should stop."""

    def measured(self, measurement: Measurement) -> None: ...
    def progress(self, **facts: Any) -> None: ...
    def point(self, **facts: Any) -> None: ...
    def note(self, event: str, **facts: Any) -> None: ...
    def spend(self, *, tokens: float = 0, flops: float = 0) -> None: ...
    def stop_reason(self) -> StopReason | None: ...


def finished(session: Session, job: Job) -> Cell | None:
    """The cell with this fingerprint that is done already, in whatever place. Raises CellFailed if it cannot be."""
    cell = session.history.finished_cell(job.fingerprint, session.folder)
    if cell is not None:
        if cell.key != job.key:
            session.emit("cell_reused", once=True, **job.place, of=cell.key)
        session.remember(cell)
        return cell
    if failure := session.history.failures.get(job.fingerprint):
        raise CellFailed(failure.why, failure.cell)
    return None


def carry_out(session: Session, job: Job, work: Callable[[StageContext], StageResult]) -> Cell:
    """Run a cell here. Raises Stopped when the engine asks for it, after the cell saved, and CellFailed."""
    cell = Underway(session, job)
    watch = Watch.begin(job.stop_if, job.declared, cell.known())
    ctx = context(job, Surroundings.of(session), cell, watch)
    if session.stop_reason():
        raise Stopped
    cell.clear()
    try:
        result = worked(work, ctx, watch)
    except NonFinite as error:
        raise cell.diverged(str(error)) from error
    except CellFailed as error:
        raise cell.failed(str(error)) from None
    finally:
        cell.pause()
    return cell.seal(result)


def worked(work: Callable[[StageContext], StageResult], ctx: StageContext, watch: Watch) -> StageResult:
    """The work itself. Raises NonFinite, Stopped, and CellFailed where a `stop_if` held."""
    try:
        result = work(ctx)
    except Stopped:
        if watch.reason:
            raise CellFailed(watch.reason) from None
        raise
    if watch.reason:
        raise CellFailed(watch.reason)
    return result


def context(job: Job, around: Surroundings, teller: Teller, watch: Watch) -> StageContext:
    """What a stage sees of the engine."""
    ctx = silent_context(job, around)
    ctx.record, ctx.looked = teller.measured, watch.look
    ctx.progress, ctx.point, ctx.note, ctx.spend = teller.progress, teller.point, teller.note, teller.spend
    ctx.stop_reason = lambda: "stop_if" if watch.reason else teller.stop_reason()
    return ctx


def silent_context(job: Job, around: Surroundings) -> StageContext:
    """For reading again what a cell reads: nothing is written, measured or metered."""
    folder = job.folder(around.run)
    return StageContext(
        inputs=job.inputs,
        data=around.data,
        workdir=folder,
        checkpoint=folder / "checkpoint",
        seed=job.seed,
        who=job.who,
        device=around.device,
        threads=around.threads,
        precision=around.precision,
        allow_changed=around.allow_changed,
        vocab=around.vocab,
        system=job.system,
        continue_from=job.continue_from.path if job.continue_from else None,
        previous=job.previous,
    )


class Underway:
    """A cell that has begun, seen from the process that writes the events: a Teller, and what ends the cell."""

    def __init__(self, session: Session, job: Job) -> None:
        self.job, self._session = job, session
        self._folder = job.folder(session.folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        inputs = {name: artifact.digest for name, artifact in job.inputs.items()}
        session.emit("cell_started", **job.place, fingerprint=job.fingerprint, inputs=inputs)
        self._meter = Meter(session, **job.place)
        self.spend = self._meter.spend

    def clear(self) -> None:
        """Drop what a killed process left half-written; its checkpoint is all that counts."""
        for entry in self._folder.iterdir():
            if entry != self._folder / "checkpoint":
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def known(self) -> list[Measurement]:
        """What was measured before it was interrupted."""
        return list(self._session.history.cells[self.job.key].measurements.values())

    # What it tells

    def measured(self, measurement: Measurement) -> None:
        self._session.emit("measured", sync=False, **self.job.place, measurement=measurement.to_json())

    def progress(self, **facts: Any) -> None:
        self._session.observe({"event": "progress", **self.job.place, **facts})

    def point(self, **facts: Any) -> None:
        self._session.emit("point", sync=False, **self.job.place, **facts)

    def note(self, event: str, **facts: Any) -> None:
        self._session.emit(event, **self.job.place, **facts)

    def stop_reason(self) -> StopReason | None:
        return self._session.stop_reason()

    # How it ends

    def pause(self) -> None:
        """It is no longer worked on: write down what it spent."""
        self._meter.spend()
        self._meter.write()

    def diverged(self, why: str) -> CellFailed:
        self._measure("train/non_finite", 1.0)
        return self.failed(why)

    def failed(self, why: str) -> CellFailed:
        self._session.emit("cell_failed", **self.job.place, error=why)
        return CellFailed(why, self._session.history.cells[self.job.key])

    def seal(self, result: StageResult) -> Cell:
        """Its outputs become artifacts. After `pause`."""
        session, job = self._session, self.job
        parents = tuple(artifact.digest for artifact in job.inputs.values())
        for name, output in result.outputs.items():
            tally = result.tallies.get(name)
            artifact = seal(output, f"{job.stage}.{name}", name, parents=parents, tally=tally)
            counted: dict[str, Any] = {"tally": tally.to_json()} if tally else {}
            path = output.relative_to(session.folder).as_posix()
            session.emit(
                "artifact", **job.place, output=name, kind=artifact.kind, digest=artifact.digest, path=path,
                parents=list(parents), **counted,
            )  # fmt: skip
            if tally and name == "model":
                for quantity in ("stored", "active", "trainable", "frozen"):
                    self._measure(f"tally/parameters/{quantity}", tally.total(quantity))
                self._measure("tally/bytes", tally.bytes, "bytes")
        spent: dict[str, Any] = dict(session.history.spent[job.key])
        for quantity, unit in (("wall_seconds", "seconds"), ("tokens", ""), ("flops", "")):
            self._measure(f"cost/{quantity}", spent[quantity.removeprefix("wall_")], unit)
        session.emit("cell_finished", **job.place, hashes=dict(result.hashes), **spent)
        shutil.rmtree(self._folder / "checkpoint", ignore_errors=True)
        cell = session.history.cells[job.key]
        session.remember(cell)
        return cell

    def _measure(self, name: str, value: float, unit: str = "") -> None:
        self.measured(Measurement(name, float(value), seed=self.job.seed, unit=unit, who=self.job.who))
