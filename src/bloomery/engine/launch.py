"""From a checked plan to a finished run: lock the folder, register, price, prepare the data, adopt inputs, walk.

Refuses to go on with a registered plan that has changed without an amendment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.engine.adopting import Inputs
from bloomery.engine.artifact import write_atomically
from bloomery.engine.budget import Ledger
from bloomery.engine.devices import find_device, load_devices
from bloomery.engine.discover import Catalogue, load
from bloomery.engine.events import Event, EventLog, read_events
from bloomery.engine.executing import Executor, InTurn
from bloomery.engine.history import History
from bloomery.engine.pricing import price_plan
from bloomery.engine.rundir import REGISTRATION_LOG, Lock, commit_of, provenance, run_folder
from bloomery.engine.runner import Outcome, Runner
from bloomery.engine.session import Data, Observer, Session
from bloomery.engine.workers import Workers
from bloomery.errors import ArtifactError
from bloomery.plan import registration
from bloomery.plan.load import Loaded, resolve


@dataclass(frozen=True, slots=True)
class Launch:
    """Where and how a plan is run. None of it is part of any fingerprint."""

    root: Path
    device: str
    threads: int
    """Of one cell."""
    observe: Observer
    signalled: Callable[[], bool]
    workers: int = 1
    """Cells at once. 1: in turn, in this process."""
    preload: tuple[str, ...] = ()
    """Modules that a worker loads before its first cell."""

    def folder(self, loaded: Loaded) -> Path:
        return run_folder(self.root, loaded.plan.name, loaded.overrides)


def launch(loaded: Loaded, catalogue: Catalogue, how: Launch) -> Outcome:
    """Run `loaded`, or go on with it. Raises BloomeryError before anything is written where it must not start."""
    folder = how.folder(loaded)
    inputs = Inputs(loaded, folder, how.root)
    _look_for_files(loaded)
    inputs.look()
    with Lock(folder) as lock, closing(_executor(how, lock)) as executor:
        events = read_events(folder / "events.jsonl")
        threads = _threads_of(events) or how.threads
        history = History(events)
        session = Session(
            folder=folder,
            catalogue=catalogue,
            log=EventLog(folder / "events.jsonl"),
            history=history,
            ledger=Ledger.restore(
                loaded.plan.budget,
                events,
                stage_caps={stage.id: stage.budget for stage in resolve(loaded).stages},
                device=load_devices().get(how.device),
            ),
            data=None,
            device=how.device,
            threads=threads,
            executor=executor,
            observe=how.observe,
            signalled=how.signalled,
        )
        _register(loaded, session)
        _open(loaded, session, how, resumed=history.resumed)
        if loaded.plan.data:
            session.data = _prepare(loaded, session, how.root)
        planned: dict[str, Any] = dict(price_plan(loaded, catalogue, find_device("cpu")).first_walk.to_json())
        session.emit("budget_planned", once=True, **planned, caps=loaded.plan.budget.model_dump())
        for name in loaded.plan.inputs:
            session.adopted[name] = inputs.take(name)
        return Runner(loaded, session).run()


def _executor(how: Launch, lock: Lock) -> Executor:
    return InTurn() if how.workers == 1 else Workers(how.workers, lock.descriptor, how.preload)


def _look_for_files(loaded: Loaded) -> None:
    """Raise BloomeryError where text that the plan names is not there."""
    if loaded.plan.data:
        spec = load("bloomery.stages.prepare:parse_data")(loaded.plan.data)
        load("bloomery.stages.prepare:open_sources")(spec, [loaded.source.parent])
        load("bloomery.stages.prepare:planned_vocab")(spec, [loaded.source.parent])


def _threads_of(events: list[Event]) -> int | None:
    """Of a cell. Another number is another run, so a resumed one keeps what it began with; workers may change."""
    for event in events:
        if event["event"] == "run_opened":
            return int(event["provenance"]["threads"])
    return None


def _register(loaded: Loaded, session: Session) -> None:
    log = session.folder / REGISTRATION_LOG
    state = registration.state(log, loaded)
    if state == "changed":
        raise ArtifactError(
            str(loaded.source),
            "this plan is registered and has changed since",
            "the plan as registered, or an amendment that says why",
            f'put it back, or: bloomery register {loaded.source} --amend "why"; or try things out with --set',
        )
    if state == "unregistered" and session.history.cells:
        raise ArtifactError(
            str(session.folder),
            "this folder holds results from before the plan was registered",
            "a plan that is registered before its first step",
            "run it in another folder (--runs), or try things out with --set",
        )
    if state == "unregistered":
        registration.register(log, loaded, commit=commit_of(loaded.source))
    if state != "exploratory":
        for record in registration.read(log):
            session.emit(**record.event(), once=True)


def _open(loaded: Loaded, session: Session, how: Launch, *, resumed: bool) -> None:
    write_atomically(session.folder / "plan.yaml", loaded.text.encode())
    facts: dict[str, Any] = {
        "run": session.folder.relative_to(how.root).as_posix(),
        "plan": loaded.plan.name,
        "digest": loaded.digest,
        "source": str(loaded.source),
        "mode": "exploratory" if loaded.exploratory else "confirmatory",
        "overrides": dict(override.split("=", 1) for override in loaded.overrides),
        "plan_text": loaded.text,
        "provenance": provenance(
            loaded.source, device=session.device, threads=session.threads, workers=how.workers
        ),
    }
    session.emit("resumed" if resumed else "run_opened", **facts)


def _prepare(loaded: Loaded, session: Session, root: Path) -> Data:
    """Prepared data lies beside the runs and is shared by all that ask for the same."""
    prepare = load("bloomery.stages.prepare:prepare_for_run")
    facts, data = prepare(
        loaded.plan.data,
        root / ".data",
        lambda **progress: session.observe({"event": "preparing", **progress}),
        plan=loaded.raw,
        roots=[loaded.source.parent],
    )
    session.emit("data_ready", once=True, **facts)
    return Data(*data)
