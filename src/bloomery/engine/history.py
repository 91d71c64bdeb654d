"""What a run folder's events say has already been done. Read once at start, then kept up by the runner.

Resuming needs no other memory: judging and prescribing are pure, so walking again from the top over finished cells
leads to the same place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bloomery.engine.artifact import Artifact, unseal
from bloomery.engine.events import FAULTS, Event, illegible
from bloomery.errors import ArtifactError
from bloomery.measure import Measurement

ONCE = frozenset(
    (
        "registered", "amended", "budget_planned", "data_ready", "walk_started", "twin_solved", "cell_reused",
        "sample", "verdict", "decision", "stage_skipped", "sweep_chosen", "candidate_chosen", "cycle_ended",
        "loop_ended", "claim_judged", "packed", "note",
    )
)  # fmt: skip
"""Events that a resumed run would say again."""

JUDGED = "judged"
"""Who a suite's measurement is of, whoever asks: the artifact that was judged."""

CellKey = tuple[str, int, str, int]
"""(stage, attempt, who, seed)"""


@dataclass(slots=True)
class Cell:
    """One seed of one party (candidate, control, baseline) in one attempt of a stage."""

    key: CellKey
    fingerprint: str
    inputs: Mapping[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    """{output: folder, relative to the run folder}"""
    measurements: dict[tuple[str, int | None], Measurement] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    finished: bool = False
    verified: dict[str, Artifact] = field(default_factory=dict)
    """Outputs whose digest this process has recomputed."""

    def artifacts(self, run: Path) -> dict[str, Artifact]:
        """The outputs, each verified against its digest, once. Raises ArtifactError where one is damaged."""
        for name, folder in self.outputs.items():
            if name not in self.verified:
                self.verified[name] = unseal(run / folder)
        return dict(self.verified)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell could not go on, and the cell with what it had measured by then."""

    why: str
    cell: Cell


class History:
    """An index over events. `add` keeps it current.

    file: where they stand, one a line. Raises ArtifactError with the line of an event that lacks what it must have."""

    def __init__(self, events: Iterable[Event] = (), file: str | Path = "events.jsonl") -> None:
        self.cells: dict[CellKey, Cell] = {}
        self.attempts: dict[str, dict[str, int]] = defaultdict(dict)
        """{stage: {stage fingerprint: attempt}}"""
        self.failures: dict[str, Failure] = {}
        """{cell fingerprint: why training could not go on}; it would not the next time either."""
        self.chosen: dict[tuple[str, int, str], Mapping[str, Any]] = {}
        """{(stage, attempt, party): the swept values that it found best}"""
        self.judged: dict[tuple[str, int], str] = {}
        """{(stage, attempt): the arm that is its candidate}, of stages with arms."""
        self._seeds: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._reused: dict[CellKey, CellKey] = {}
        self.evaluations: dict[tuple[str, str], tuple[Measurement, ...]] = {}
        """{(suite digest, artifact digest): measurements}, of JUDGED or of a rival that the suite brings"""
        self._pending: dict[tuple[str, str], dict[tuple[str, str, int | None], Measurement]] = defaultdict(dict)
        self.spent: dict[CellKey, dict[str, float]] = defaultdict(lambda: {"tokens": 0.0, "flops": 0.0, "seconds": 0.0})
        self.seen: set[tuple[Any, ...]] = set()
        self.resumed = False
        for line, event in enumerate(events, start=1):
            try:
                self.add(event)
            except FAULTS as error:
                raise illegible(event, f"{file}:{line}", error) from error

    def add(self, event: Event) -> None:
        name = event["event"]
        if name == "run_opened":
            self.resumed = True
        elif name == "stage_started":
            self.attempts[event["stage"]].setdefault(event["fingerprint"], event["attempt"])
            seeds = dict.fromkeys(cell["seed"] for cell in event.get("cells") or ())
            self._seeds[event["stage"], event["attempt"]] = list(seeds)
        elif name == "cell_started":
            key = _key(event)
            known = self.cells.get(key)
            if known is None or known.fingerprint != event["fingerprint"]:
                self.cells[key] = Cell(key, event["fingerprint"], event["inputs"])
            else:
                known.finished = False
                known.verified.clear()
        elif name == "cell_failed":
            cell = self.cells[_key(event)]
            self.failures[cell.fingerprint] = Failure(event["error"], cell)
        elif name == "artifact" and _key(event) in self.cells:
            self.cells[_key(event)].outputs[event["output"]] = event["path"]
        elif name == "measured":
            measurement = Measurement.from_json(event["measurement"])
            slot = (measurement.name, measurement.step)
            if "suite" in event:
                own = measurement.who == event.get("who", measurement.who)
                measurement = replace(measurement, who=JUDGED if own else measurement.who)
                self._pending[event["suite"], event["artifact"]][measurement.who, *slot] = measurement
            elif _key(event) in self.cells:
                self.cells[_key(event)].measurements[slot] = measurement
        elif name == "spent":
            for quantity, amount in self.spent[_key(event)].items():
                self.spent[_key(event)][quantity] = amount + event[quantity]
        elif name == "evaluated":
            done = (event["suite"], event["artifact"])
            self.evaluations[done] = tuple(self._pending.pop(done, {}).values())
        elif name == "cell_finished":
            cell = self.cells[_key(event)]
            cell.finished, cell.hashes = True, event["hashes"]
        elif name == "candidate_chosen":
            self.judged[event["stage"], event["attempt"]] = event["candidate"]
        elif name == "sweep_chosen":
            self.chosen[event["stage"], event["attempt"], event["who"]] = event["chosen"] or {}
        if name == "cell_reused":
            stage, attempt, who, seed = event["of"]
            self._reused[_key(event)] = (stage, attempt, who, seed)
        if name in ONCE:
            self.seen.add(identity(event))

    def cell(self, key: CellKey) -> Cell | None:
        """A cell by its place, or the one that was taken over there because nothing had changed for it."""
        return self.cells.get(key) or self.cells.get(self._reused.get(key, key))

    def seeds_of(self, stage: str, attempt: int) -> list[int]:
        """The seeds of an attempt, in the plan's order."""
        return self._seeds[stage, attempt]

    def finished_cell(self, fingerprint: str, run: Path) -> Cell | None:
        """A finished cell with this fingerprint whose outputs are still whole; the latest such."""
        for cell in reversed(self.cells.values()):
            if cell.finished and cell.fingerprint == fingerprint:
                try:
                    cell.artifacts(run)
                except ArtifactError:
                    continue
                return cell
        return None

    def attempt(self, stage: str, fingerprint: str) -> int:
        """The number of the attempt with this fingerprint: an old one, or the next."""
        attempts = self.attempts[stage]
        return attempts.get(fingerprint, len(attempts) + 1)


def identity(event: Event) -> tuple[Any, ...]:
    """Two events with the same identity say the same thing; the second is not written on a resumed run."""
    facts = {key: value for key, value in event.items() if key != "time"}
    return tuple(sorted((key, repr(value)) for key, value in facts.items()))


def _key(event: Event) -> CellKey:
    measurement = event.get("measurement", {})
    return (
        event.get("stage", ""),
        event.get("attempt", 0),
        event.get("who", measurement.get("who", "candidate")),
        event.get("seed", measurement.get("seed")),
    )
