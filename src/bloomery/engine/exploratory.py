"""Judging a run after its end: what it found stands in the run folder's evaluations.jsonl, one line a suite and model.

Not in events.jsonl, and on purpose: the events are what verdicts rest on and what a run goes on from. What is looked at
afterwards is exploratory; no gate, rule or claim ever reads this file. Append-only, written under the run's lock. A
suite that was asked of this artifact before, with the same settings, data and machine, is told from the file.

Differences are taken seed by seed and item by item by the judge's own code (engine.estimate), so that they mean what
they mean in a gate. Refuses data that is no longer there, and parties that have no seed in common.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bloomery import __version__
from bloomery.engine.artifact import Artifact, unseal
from bloomery.engine.asking import Request
from bloomery.engine.discover import Catalogue
from bloomery.engine.estimate import Pair, Sample
from bloomery.engine.events import FAULTS, Event, EventLog, illegible, read_events
from bloomery.engine.intervals import exact_mean
from bloomery.engine.rundir import processor
from bloomery.errors import ArtifactError
from bloomery.measure import Interval, Measurement
from bloomery.plan.canon import digest

FILE = "evaluations.jsonl"
LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is judged: the models of one party of one attempt of a stage, a seed each."""

    run: Path
    stage: str
    attempt: int
    who: str
    models: Mapping[int, Path]
    """{seed: model folder}"""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it is judged, and on which prepared data."""

    data: Path | None
    data_digest: str
    device: str
    threads: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One suite on one model, as stored."""

    time: str
    suite: str
    kind: str
    settings: Mapping[str, Any]
    stage: str
    attempt: int
    who: str
    seed: int
    measurements: tuple[Measurement, ...]
    samples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One metric over all seeds, and its difference from another party's where one was asked for."""

    metric: str
    value: float
    interval: Interval | None
    n: int
    seeds: tuple[int, ...]
    unit: str = ""
    against: float | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    note: str = ""


def read_evaluations(run: Path) -> tuple[Evaluation, ...]:
    """All that were stored, oldest first. Raises ArtifactError for a damaged line."""
    return tuple(_read(event, f"{run / FILE}:{line}") for line, event in enumerate(read_events(run / FILE), start=1))


def _read(event: Event, where: str) -> Evaluation:
    try:
        return Evaluation(
            time=str(event["time"]),
            suite=event["suite"],
            kind=event["kind"],
            settings=event["settings"],
            stage=event["stage"],
            attempt=event["attempt"],
            who=event["who"],
            seed=event["seed"],
            measurements=tuple(Measurement.from_json(one) for one in event["measurements"]),
            samples=tuple((prompt, text) for prompt, text in event["samples"]),
        )
    except FAULTS as error:
        raise illegible(event, where, error) from error


def find_data(run: Path, wanted: str) -> Path:
    """The prepared data of this digest, beside the runs. Raises ArtifactError where it is gone."""
    looked: list[str] = []
    for parent in run.resolve().parents:
        folder = parent / ".data"
        if not folder.is_dir():
            continue
        looked.append(str(folder))
        for manifest in sorted(folder.glob("*/manifest.json")):
            try:
                found = json.loads(manifest.read_text(encoding="utf-8"))["digest"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if found == wanted:
                return manifest.parent
    raise ArtifactError(
        str(run),
        f"its prepared data ({wanted[:12]}) is no longer there",
        f"in {' or '.join(looked) or 'a folder .data beside the runs'}",
        "run the plan again: it prepares its data and skips what is done",
    )


def judge_subject(
    request: Request,
    subject: Subject,
    machine: Machine,
    catalogue: Catalogue,
    *,
    again: bool = False,
    observe: Callable[[str], None] = lambda text: None,
) -> list[Evaluation]:
    """The suite on every seed's model; what is new is appended. The caller holds the run's lock."""
    before = {
        event.get("key"): (event, f"{subject.run / FILE}:{line}")
        for line, event in enumerate(read_events(subject.run / FILE), start=1)
    }
    found: list[Evaluation] = []
    for seed, folder in subject.models.items():
        model = unseal(folder)
        facts = _identity(request, subject, seed, model, machine)
        key = digest({name: value for name, value in facts.items() if name not in ("stage", "attempt")})
        if key in before and not again:
            observe(f"{request.name} of {subject.who} seed {seed}: as measured before")
            found.append(_read(*before[key]))
            continue
        observe(f"judging {subject.who} seed {seed} on {request.name}")
        result = catalogue.suite(request.kind).run(
            request.config, model, machine.data, device=machine.device, threads=machine.threads
        )
        told = [
            replace(one, name=f"{request.name}/{one.name}", seed=seed, who=subject.who).to_json()
            for one in result.measurements
        ]
        line = EventLog(subject.run / FILE).write(
            "evaluation", key=key, **facts, measurements=told, samples=[list(pair) for pair in result.samples]
        )
        found.append(_read(line, str(subject.run / FILE)))
    return found


def _identity(request: Request, subject: Subject, seed: int, model: Artifact, machine: Machine) -> dict[str, Any]:
    return {
        "suite": request.name,
        "kind": request.kind,
        "settings": json.loads(json.dumps(dict(request.settings), default=str)),
        "data": machine.data_digest,
        "artifact": model.digest,
        "stage": subject.stage,
        "attempt": subject.attempt,
        "who": subject.who,
        "seed": seed,
        "device": machine.device,
        "threads": machine.threads,
        "processor": processor(),
        "bloomery": __version__,
    }


def findings(judged: Sequence[Evaluation], against: Sequence[Evaluation] | None = None) -> list[Finding]:
    """One for every metric, in the order in which the suites told them."""
    ours, theirs = _by_metric(judged), _by_metric(against or ())
    found: list[Finding] = []
    for metric, measured in ours.items():
        unit = next(iter(measured.values())).unit
        sample = Sample(tuple(Pair(seed, one) for seed, one in measured.items()), "difference", unit)
        one = Finding(
            metric,
            exact_mean(sample.values),
            sample.mean_interval(LEVEL),
            sample.n,
            tuple(measured),
            sample.unit,
        )
        found.append(one if against is None else _beside(one, measured, theirs.get(metric, {})))
    return found


def _beside(one: Finding, ours: Mapping[int, Measurement], theirs: Mapping[int, Measurement]) -> Finding:
    if not theirs:
        return replace(one, note="not measured on the other")
    value = exact_mean([other.value for other in theirs.values()])
    common = [seed for seed in ours if seed in theirs]
    if common:
        pairs = tuple(Pair(seed, ours[seed], theirs[seed]) for seed in common)
    elif len(theirs) == 1:
        pairs = tuple(Pair(seed, ours[seed], next(iter(theirs.values()))) for seed in ours)
    else:
        return replace(one, against=value, note="no seed in common: not paired")
    sample = Sample(pairs, "difference", one.unit)
    left_out = "" if len(pairs) == len(ours) else f"over the {len(pairs)} seeds in common"
    tied = "alike to the last bit on every item" if sample.tied else ""
    return replace(
        one,
        against=value,
        difference=exact_mean(sample.values),
        difference_interval=sample.mean_interval(LEVEL),
        note="; ".join(part for part in (left_out, tied) if part),
    )


def _by_metric(evaluations: Sequence[Evaluation]) -> dict[str, dict[int, Measurement]]:
    out: dict[str, dict[int, Measurement]] = {}
    for evaluation in evaluations:
        for one in evaluation.measurements:
            out.setdefault(one.name, {})[evaluation.seed] = one
    return out
