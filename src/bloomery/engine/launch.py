"""From a checked plan to a finished run: lock the folder, register, price, prepare the data, adopt inputs, walk.

Refuses to go on with a registered plan that has changed without an amendment.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.engine import parties
from bloomery.engine.adopting import Inputs
from bloomery.engine.artifact import write_atomically
from bloomery.engine.budget import Ledger
from bloomery.engine.devices import VARIABLE, Device, find_device, load_devices, priced_as
from bloomery.engine.discover import Catalogue, load
from bloomery.engine.events import Event, EventLog, read_events
from bloomery.engine.executing import Executor, InTurn
from bloomery.engine.gauge import Gauge
from bloomery.engine.history import History
from bloomery.engine.leaks import fitted_parts, notes, refuse_judged
from bloomery.engine.pricing import price_plan
from bloomery.engine.resuming import begun_with, check_data, check_device, check_known, precision_note
from bloomery.engine.rundir import REGISTRATION_LOG, Lock, commit_of, provenance, run_folder
from bloomery.engine.runner import Outcome, Runner
from bloomery.engine.session import Data, Meter, Observer, Session
from bloomery.engine.stage import ExaminingStage
from bloomery.engine.workers import Workers
from bloomery.errors import ArtifactError, BloomeryError, DataError
from bloomery.plan import cast, registration
from bloomery.plan.canon import canonical
from bloomery.plan.check_ready import lacking, unready
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
    allow_changed: tuple[str, ...] = ()
    """What a resumed run may find changed: keys of engine.resuming.CHANGES."""
    workers: int = 1
    """Cells at once. 1: in turn, in this process."""
    preload: tuple[str, ...] = ()
    """Modules that a worker loads before its first cell."""
    force: bool = False
    """Run stages whose `STAGE.passed` is not met; each is told."""

    def folder(self, loaded: Loaded) -> Path:
        return run_folder(self.root, loaded.plan.name, loaded.overrides)


def launch(loaded: Loaded, catalogue: Catalogue, how: Launch) -> Outcome:
    """Run `loaded`, or go on with it. Raises BloomeryError before anything is written where it must not start."""
    check_known(how.allow_changed)
    folder = how.folder(loaded)
    inputs = Inputs(loaded, folder, how.root)
    _look_for_files(loaded)
    left_out = _without(loaded, catalogue)
    inputs.look()
    device, unpriced = _priced(loaded, how.device)
    with Lock(folder) as lock, closing(_executor(how, lock)) as executor:
        events = read_events(folder / "events.jsonl")
        history = History(events, folder / "events.jsonl")
        check_device(events, how.device, str(folder), how.allow_changed)
        native = load("bloomery.stages.training:native_precision")(how.device)
        session = Session(
            folder=folder,
            catalogue=catalogue,
            log=EventLog(folder / "events.jsonl"),
            history=history,
            ledger=Ledger.restore(
                loaded.plan.budget,
                events,
                stage_caps={stage.id: stage.budget for stage in resolve(loaded).stages},
                device=device,
                file=folder / "events.jsonl",
            ),
            gauge=Gauge(folder),
            data=None,
            device=how.device,
            threads=begun_with(events, "threads") or how.threads,
            precision=begun_with(events, "precision") or native,
            executor=executor,
            observe=how.observe,
            signalled=how.signalled,
            allow_changed=how.allow_changed,
            force=how.force,
            left_out=frozenset(left_out),
        )
        _register(loaded, session)
        _open(loaded, session, how, resumed=history.resumed)
        told = [f"suite {name} is left out: {lacking(why)} ({why.hint})" for name, why in left_out.items()]
        for note in filter(None, (precision_note(session.precision, native, session.device), unpriced, *told)):
            session.emit("note", text=note)
        if loaded.plan.data:
            session.data = _prepare(loaded, session, how.root, events)
        priced = price_plan(loaded, catalogue, device or find_device("cpu"))
        planned: dict[str, Any] = dict(priced.first_walk.to_json())
        session.emit("budget_planned", once=True, **planned, caps=loaded.plan.budget.model_dump())
        session.observe({"event": "planned", "cells": priced.sizes()})
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


def _without(loaded: Loaded, catalogue: Catalogue) -> dict[str, BloomeryError]:
    """{suite: why it cannot be measured here} of those that are only reported. Raises BloomeryError where one that
    decides something could not be measured once the training is done."""
    left_out: dict[str, BloomeryError] = {}
    for name, error, decides in unready(loaded, catalogue):
        if decides:
            where = f"{loaded.where(f'suites.{name}')}: {error.where}"
            raise type(error)(where, error.found, error.expected, error.hint or "or take the suite out of the plan")
        left_out[name] = error
    return left_out


def _priced(loaded: Loaded, device: str) -> tuple[Device | None, str]:
    """The device's place in the price table, or a note that it has none. Raises BloomeryError where money is capped."""
    if device in load_devices():
        return find_device(device), ""
    reported = load("bloomery.train.device:reported_name")(device)
    if found := priced_as(reported):
        return found, ""
    what = f"{device} ({reported}) has no price"
    hint = f"give it one in a file named by {VARIABLE}, with `reported` for what its driver calls it"
    caps = {"budget.money": loaded.plan.budget.money}
    caps |= {f"stages.{stage.id}.budget.money": stage.budget.money for stage in resolve(loaded).stages}
    for path, cap in caps.items():
        if cap is not None:
            raise BloomeryError(
                loaded.where(path), f"a cap on money, and {what}", f"one of {', '.join(load_devices())}", hint
            )
    return None, f"{what}, so money and energy are not counted; {hint}"


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
        "canonical": canonical(loaded.plan),
        "provenance": provenance(
            loaded.source,
            device=session.device,
            threads=session.threads,
            workers=how.workers,
            precision=session.precision,
        ),
    }
    if resumed:
        session.emit("resumed", allowed_changes=list(session.allow_changed), **facts)
    else:
        session.emit("run_opened", **facts)


def _examine(loaded: Loaded, catalogue: Catalogue, data: Data) -> None:
    """Raise DataError, under the stage's name, for data that a later stage would refuse when its turn came."""
    plan = resolve(loaded)
    for stage in plan.stages:
        kind = catalogue.kind(stage.kind) if stage.kind is not None else None
        if isinstance(kind, ExaminingStage):
            for who in cast.arms(stage):
                try:
                    kind.examine(parties.settings(plan, stage, kind, who, vocab=data.vocab), data.folder)
                except DataError as error:
                    error.where = f"{loaded.where(f'stages.{stage.id}')}: {error.where}"
                    raise


def _prepare(loaded: Loaded, session: Session, root: Path, before: list[Event]) -> Data:
    """Prepared data lies beside the runs and is shared by all that ask for the same. Its seconds belong to no stage."""
    meter = Meter(session, stage="", doing="data")
    prepare = load("bloomery.stages.prepare:prepare_for_run")
    facts, data = prepare(
        loaded.plan.data,
        root / ".data",
        lambda **progress: session.observe({"event": "preparing", **progress}),
        plan=loaded.raw,
        roots=[loaded.source.parent],
    )
    meter.spend()
    meter.write()
    same = check_data(before, facts["digest"], loaded.digest, str(session.folder), session.allow_changed)
    fitted = fitted_parts(loaded.plan, session.catalogue)
    refuse_judged(loaded, facts["across"], fitted)
    _examine(loaded, session.catalogue, Data(*data))
    session.emit("data_ready", once=same, **facts)
    for text in () if same else notes(facts["across"], fitted):
        session.emit("note", text=text)
    return Data(*data)
