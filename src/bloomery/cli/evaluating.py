"""`eval`: judges the models of a finished run with any installed suite. Exploratory; no verdict is changed by it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from bloomery.cli.bars import Bars, Judging
from bloomery.cli.console import console
from bloomery.cli.reading import print_grid, view_of
from bloomery.errors import ArtifactError
from bloomery.evaluate.progress import heard_by

if TYPE_CHECKING:
    from bloomery.engine.asking import Request
    from bloomery.engine.exploratory import Evaluation, Finding, Machine, Subject
    from bloomery.measure import Interval
    from bloomery.report.view import RunView

PARTIES = ("candidate", "control", "arm:", "baseline:")
"""What --against takes for a party of the same run and stage."""


def evaluate(
    name: str,
    suites: Sequence[str],
    root: Path,
    *,
    against: str | None = None,
    stage: str | None = None,
    who: str = "candidate",
    changes: Sequence[str] = (),
    device: str = "cpu",
    threads: int = 0,
    again: bool = False,
    as_json: bool = False,
) -> None:
    """Judge, store, print. Raises BloomeryError before anything is loaded where the question makes no sense."""
    from bloomery.engine.asking import requests
    from bloomery.engine.discover import catalogue
    from bloomery.engine.rundir import Lock
    from bloomery.report.handed import models_of

    view = view_of(name, root)
    models = models_of(view, stage, who)
    subject = _subject(view, models)
    other = _other(view, against, root, models.stage) if against is not None else None
    asked = requests(suites, changes, view.plan, catalogue, _parts(view))
    machine = _machine(view, device, threads)
    notes = _notes(view, models.promoted, stage, asked)
    screen = console()

    def observe(text: str) -> None:
        print(text, file=sys.stderr)

    told: list[dict[str, Any]] = []
    bars = Bars(Console(stderr=True))
    with ExitStack() as locks:
        locks.callback(bars.close)
        locks.enter_context(heard_by(Judging(bars)))
        for folder in dict.fromkeys(one.run for one in (subject, other) if one is not None):
            locks.enter_context(Lock(folder))
        for request in asked:
            found, evaluations = _judge(request, subject, other, machine, again, observe)
            told.append(_as_json(request, subject, other, found, notes))
            if not as_json:
                _print(screen, request, subject, other, found, evaluations)
    if as_json:
        print(json.dumps(told, indent=1))
        return
    for note in notes:
        screen.print(f"- {note}", highlight=False, markup=False)
    screen.print("exploratory: stored with the run, part of no verdict", highlight=False, markup=False)
    screen.print(f"next: bloomery show {name}", highlight=False, markup=False)


def _judge(
    request: Request, subject: Subject, other: Subject | None, machine: Machine, again: bool, observe: Any
) -> tuple[list[Finding], list[Evaluation]]:
    from bloomery.engine.discover import catalogue
    from bloomery.engine.exploratory import findings, judge_subject

    evaluations = judge_subject(request, subject, machine, catalogue, again=again, observe=observe)
    beside = judge_subject(request, other, machine, catalogue, again=again, observe=observe) if other else None
    return findings(evaluations, beside), evaluations


def _subject(view: RunView, models: Any) -> Subject:
    from bloomery.engine.exploratory import Subject

    return Subject(view.folder, models.stage, models.attempt, models.who, models.folders)


def _other(view: RunView, against: str, root: Path, stage: str) -> Subject:
    """A party of the same stage, or another run's candidate."""
    from bloomery.report.handed import models_of

    if against in PARTIES or against.startswith(tuple(one for one in PARTIES if one.endswith(":"))):
        return _subject(view, models_of(view, stage, against))
    other = view_of(against, root)
    return _subject(other, models_of(other))


def _parts(view: RunView) -> Mapping[str, Sequence[str]]:
    return {name: tuple(splits) for name, splits in (view.data.get("splits") or {}).items()}


def _machine(view: RunView, device: str, threads: int) -> Machine:
    from bloomery.engine.exploratory import Machine, find_data

    if not view.finished:
        raise ArtifactError(
            str(view.folder), f"this run is {view.status}", "a run that has ended", f"bloomery run {view.header.plan}"
        )
    threads = threads or int(view.header.provenance.get("threads") or 1)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    from bloomery.train.device import choose_device

    digest = str(view.data.get("digest") or "")
    folder = find_data(view.folder, digest) if digest else None
    return Machine(folder, digest, choose_device(device).value, threads)


def _notes(view: RunView, promoted: bool, stage: str | None, asked: Sequence[Request]) -> list[str]:
    """What a reader of the numbers has to know."""
    from bloomery.engine.discover import catalogue
    from bloomery.engine.leaks import fitted_parts

    notes = []
    if not promoted:
        which = f"the stage {stage} was not promoted" if stage else "no stage of this run was promoted"
        notes.append(f"{which}: its model is judged as it is")
    fitted = fitted_parts(view.plan, catalogue) if view.plan is not None else frozenset()
    for request in asked:
        part = request.settings.get("data")
        if isinstance(part, str) and (part if ":" in part else f"{part}:train") in fitted:
            notes.append(f"{request.name} judges {part}, which the run has learned from")
    return notes


def _print(
    screen: Any, request: Request, subject: Subject, other: Subject | None, found: Sequence[Finding],
    evaluations: Sequence[Evaluation],
) -> None:  # fmt: skip
    from bloomery.report.evaluations import finding_grid

    title = f"{request.name} of {_called(subject)}"
    print_grid(screen, finding_grid(title, found, _called(other) if other else ""))
    for prompt, text in evaluations[0].samples[:3] if evaluations else ():
        screen.print(f"> {prompt}{text}", highlight=False, markup=False)


def _called(subject: Subject) -> str:
    return f"{subject.run.name}, {subject.stage}, {subject.who}"


def _as_json(
    request: Request, subject: Subject, other: Subject | None, found: Sequence[Finding], notes: Sequence[str]
) -> dict[str, Any]:
    def party(one: Subject | None) -> dict[str, Any] | None:
        if one is None:
            return None
        return {"run": str(one.run), "stage": one.stage, "attempt": one.attempt, "who": one.who}

    def bounds(interval: Interval | None) -> list[float] | None:
        return None if interval is None else [interval.low, interval.high, interval.level]

    metrics = [
        {
            "metric": one.metric, "value": one.value, "interval": bounds(one.interval), "n": one.n,
            "seeds": list(one.seeds), "unit": one.unit,
            **({"against": one.against, "difference": one.difference, "note": one.note,
                "difference_interval": bounds(one.difference_interval)} if other else {}),
        }
        for one in found
    ]  # fmt: skip
    return {
        "suite": request.name, "kind": request.kind, "settings": request.config.model_dump(mode="json"),
        "of": party(subject), "against": party(other), "exploratory": True, "notes": list(notes), "metrics": metrics,
    }  # fmt: skip
