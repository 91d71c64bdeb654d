"""One cell from start to seal: its folder, its context, its meter, its artifacts, its facts in the events.

A cell is one seed of one party in one attempt of a stage; a trial of a sweep is a cell too, called PARTY~NUMBER. What a
killed process left half-written is cleared, its checkpoint kept. A cell that cannot go on raises CellFailed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bloomery.engine.artifact import Artifact, seal
from bloomery.engine.history import Cell
from bloomery.engine.session import Meter, Session
from bloomery.engine.stage import StageContext, StageResult, Stopped
from bloomery.engine.watching import Watch
from bloomery.errors import NonFinite
from bloomery.measure import Emitted
from bloomery.plan.schema import Condition


class CellFailed(Exception):
    """A cell could not go on: non-finite values, or a `stop_if` that held. The stage's evidence stays incomplete."""


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
    stop_if: Sequence[Condition] = ()
    declared: Mapping[str, Emitted] = field(default_factory=dict[str, Emitted])

    @property
    def place(self) -> dict[str, Any]:
        return {"stage": self.stage, "attempt": self.attempt, "who": self.who, "seed": self.seed}

    def folder(self, run: Path) -> Path:
        return run / self.stage / str(self.attempt) / f"{self.who.replace(':', '-')}-seed{self.seed}"


def finished(session: Session, job: Job) -> Cell | None:
    """The cell with this fingerprint that is done already, in whatever place. Raises CellFailed if it cannot be."""
    cell = session.history.finished_cell(job.fingerprint, session.folder)
    if cell is not None:
        if cell.key != (job.stage, job.attempt, job.who, job.seed):
            session.emit("cell_reused", once=True, **job.place, of=cell.key)
        session.remember(cell)
        return cell
    if failure := session.history.failures.get(job.fingerprint):
        raise CellFailed(failure)
    return None


def carry_out(session: Session, job: Job, work: Callable[[StageContext], StageResult]) -> Cell:
    """Run a cell. Raises Stopped when the engine asks for it, after the cell saved, and CellFailed."""
    folder = job.folder(session.folder)
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {name: artifact.digest for name, artifact in job.inputs.items()}
    session.emit("cell_started", **job.place, fingerprint=job.fingerprint, inputs=inputs)
    meter = Meter(session, **job.place)
    known = session.history.cells[job.stage, job.attempt, job.who, job.seed]
    watch = Watch.begin(job.stop_if, job.declared, known.measurements.values())
    ctx = context(session, job, meter, watch)
    if session.stop_reason():
        raise Stopped
    _clear(ctx.workdir, keep=ctx.checkpoint)
    try:
        result = work(ctx)
        if watch.reason:
            raise CellFailed(watch.reason)
    except NonFinite as error:
        ctx.measure("train/non_finite", 1.0)
        raise _failed(session, job, str(error)) from error
    except Stopped:
        if watch.reason:
            raise _failed(session, job, watch.reason) from None
        raise
    except CellFailed as error:
        raise _failed(session, job, str(error)) from None
    finally:
        meter.spend()
        meter.write()
    return _seal(session, job, ctx, result)


def context(session: Session, job: Job, meter: Meter, watch: Watch) -> StageContext:
    """What a stage sees of the engine. Writes nothing by itself."""
    place, folder = job.place, job.folder(session.folder)
    return StageContext(
        inputs=job.inputs,
        data=session.data.folder if session.data else None,
        workdir=folder,
        checkpoint=folder / "checkpoint",
        seed=job.seed,
        who=job.who,
        device=session.device,
        threads=session.threads,
        precision=session.precision,
        allow_changed=session.allow_changed,
        vocab=session.data.vocab if session.data else 0,
        system=job.system,
        continue_from=job.continue_from.path if job.continue_from else None,
        record=lambda measurement: session.emit("measured", sync=False, **place, measurement=measurement.to_json()),
        looked=watch.look,
        progress=lambda **facts: session.observe({"event": "progress", **place, **facts}),
        point=lambda **facts: session.emit("point", sync=False, **place, **facts),
        note=lambda event, **facts: session.emit(event, **place, **facts),
        stop_reason=lambda: "stop_if" if watch.reason else session.stop_reason(),
        spend=meter.spend,
    )


def reading_context(session: Session, job: Job) -> StageContext:
    """For reading again the tokens of a cell: nothing is written, measured or metered."""
    return context(session, job, Meter(session, **job.place), Watch((), {}))


def _failed(session: Session, job: Job, why: str) -> CellFailed:
    session.emit("cell_failed", **job.place, error=why)
    return CellFailed(why)


def _seal(session: Session, job: Job, ctx: StageContext, result: StageResult) -> Cell:
    parents = tuple(artifact.digest for artifact in job.inputs.values())
    for name, output in result.outputs.items():
        tally = result.tallies.get(name)
        artifact = seal(output, f"{job.stage}.{name}", name, parents=parents, tally=tally)
        counted: dict[str, Any] = {"tally": tally.to_json()} if tally else {}
        session.emit(
            "artifact",
            **job.place,
            output=name,
            kind=artifact.kind,
            digest=artifact.digest,
            path=output.relative_to(session.folder).as_posix(),
            parents=list(parents),
            **counted,
        )
        if tally and name == "model":
            for quantity in ("stored", "active", "trainable", "frozen"):
                ctx.measure(f"tally/parameters/{quantity}", tally.total(quantity))
            ctx.measure("tally/bytes", tally.bytes, unit="bytes")
    key = (job.stage, job.attempt, job.who, job.seed)
    spent: dict[str, Any] = dict(session.history.spent[key])
    for quantity, unit in (("wall_seconds", "seconds"), ("tokens", ""), ("flops", "")):
        ctx.measure(f"cost/{quantity}", spent[quantity.removeprefix("wall_")], unit=unit)
    session.emit("cell_finished", **job.place, hashes=dict(result.hashes), **spent)
    shutil.rmtree(ctx.checkpoint, ignore_errors=True)
    cell = session.history.cells[key]
    session.remember(cell)
    return cell


def _clear(workdir: Path, *, keep: Path) -> None:
    """What a killed process left half-written; its checkpoint is all that counts."""
    for entry in workdir.iterdir():
        if entry != keep:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
