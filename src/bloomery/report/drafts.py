"""Attempts and stages while they are being read: dictionaries, because later events replace earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bloomery.measure import Measurement
from bloomery.plan.cast import CANDIDATE, CONTROL, fixed_candidate
from bloomery.plan.schema import StageSpec
from bloomery.report.facts import Cell, CycleEnd, Look, LoopEnd, MadeArtifact, Point, Sample, Sweep
from bloomery.report.view import Attempt, StageView, is_arm, is_trial

CellKey = tuple[str, int | None]
"""(who, seed)"""
JudgedBySuites = Mapping[str, Mapping[str, Measurement]]
"""{artifact digest: {metric: what a suite measured on it}}: a suite judges an artifact once, whoever asks for it."""


@dataclass(slots=True)
class DraftAttempt:
    """One attempt; `freeze` gives the value."""

    value: Attempt
    cells: dict[CellKey, Cell] = field(default_factory=dict)
    points: dict[CellKey, dict[int, Point]] = field(default_factory=dict)
    measured: dict[tuple[Any, ...], Measurement] = field(default_factory=dict)
    artifacts: dict[tuple[str, int | None, str], MadeArtifact] = field(default_factory=dict)
    samples: dict[tuple[str, int | None, str], Sample] = field(default_factory=dict)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    planned: list[str] = field(default_factory=list)
    """Everyone who is to take part, in order."""
    candidate: str = ""
    """As the events say; empty where they do not."""

    def inherit(self, key: CellKey, source: DraftAttempt, source_key: CellKey) -> None:
        """A reused cell: what was measured and made in the cell it was taken from, where nothing newer is here."""
        if source_key in source.cells:
            known = self.cells.get(key)
            taken = known.source if known is not None else None
            self.cells[key] = replace(
                source.cells[source_key], who=key[0], seed=key[1], state="reused", source=taken, error=""
            )
        self.points.setdefault(key, source.points.get(source_key, {}))
        for slot, one in list(source.measured.items()):
            if (one.who, one.seed) == source_key:
                self.measured.setdefault((slot[0], *key, slot[3]), replace(one, who=key[0], seed=key[1]))
        for (who, seed, output), made in list(source.artifacts.items()):
            if (who, seed) == source_key:
                self.artifacts.setdefault((*key, output), replace(made, who=key[0], seed=key[1]))

    def freeze(self, spec: StageSpec | None, judged: JudgedBySuites) -> Attempt:
        cells = dict(self.cells)
        for key in self.points:
            cells.setdefault(key, Cell(*key, state="running"))
        names = dict.fromkeys([*self.planned, *(who for who, _ in cells)])
        arms = tuple(who for who in names if is_arm(who) and not is_trial(who))
        fixed = (fixed_candidate(spec) or "") if spec is not None and arms else "" if arms else CANDIDATE
        frozen = [
            replace(cell, points=tuple(point for _, point in sorted(self.points.get(key, {}).items())))
            for key, cell in sorted(cells.items(), key=lambda one: _order(list(names), *one[0]))
        ]
        return replace(
            self.value,
            candidate=self.candidate or fixed,
            arms=arms,
            cells=tuple(cell for cell in frozen if not is_trial(cell.who)),
            trials=tuple(cell for cell in frozen if is_trial(cell.who)),
            measurements=tuple(one for one in self._all_measured(judged) if not is_trial(one.who)),
            artifacts=tuple(made for made in self.artifacts.values() if not is_trial(made.who)),
            samples=tuple(self.samples.values()),
            sweeps=tuple(self.sweeps.values()),
        )

    def _all_measured(self, judged: JudgedBySuites) -> list[Measurement]:
        """With what suites found on artifacts that are the same here, though another party or attempt asked first."""
        measured = dict(self.measured)
        for (who, seed, output), made in self.artifacts.items():
            for name, one in judged.get(made.digest, {}).items() if output == "model" else ():
                measured.setdefault((name, who, seed, None), replace(one, who=who, seed=seed))
        return list(measured.values())


def _order(names: list[str], who: str, seed: int | None) -> tuple[bool, bool, int, int]:
    """The candidate, the control, then as planned: arms, and the baselines as they came."""
    return who != CANDIDATE, who != CONTROL, names.index(who), -1 if seed is None else seed


@dataclass(slots=True)
class DraftStage:
    id: str
    kind: str = ""
    skipped: str = ""
    attempts: dict[int, DraftAttempt] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    seen: tuple[int, int] = (0, 0)
    """How many patches and amendments there were at the last look."""

    def freeze(self, spec: StageSpec | None, judged: JudgedBySuites) -> StageView:
        return StageView(
            self.id,
            self.kind or (spec.kind or "" if spec is not None else ""),
            tuple(attempt.freeze(spec, judged) for _, attempt in sorted(self.attempts.items())),
            self.skipped,
            tuple(self.looks),
            spec,
            spec.cycle if spec is not None else None,
        )


@dataclass(slots=True)
class DraftLoop:
    id: str
    ends: dict[int, CycleEnd] = field(default_factory=dict)
    end: LoopEnd | None = None
