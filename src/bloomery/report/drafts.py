"""Attempts and stages while they are being read: dictionaries, because later events replace earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from bloomery.measure import Measurement
from bloomery.report.view import Attempt, Cell, MadeArtifact, Point, Sample

CellKey = tuple[str, int | None]
"""(who, seed)"""


@dataclass(slots=True)
class DraftAttempt:
    """One attempt; `freeze` gives the value."""

    value: Attempt
    cells: dict[CellKey, Cell] = field(default_factory=dict)
    points: dict[CellKey, dict[int, Point]] = field(default_factory=dict)
    measured: dict[tuple[Any, ...], Measurement] = field(default_factory=dict)
    artifacts: dict[tuple[str, int | None, str], MadeArtifact] = field(default_factory=dict)
    samples: dict[tuple[str, int | None, str], Sample] = field(default_factory=dict)

    def inherit(self, key: CellKey, source: DraftAttempt, source_key: CellKey) -> None:
        """A reused cell: what was measured and made in the cell it was taken from, where nothing newer is here."""
        if source_key in source.cells:
            self.cells[key] = replace(source.cells[source_key], who=key[0], seed=key[1], state="reused")
        self.points.setdefault(key, source.points.get(source_key, {}))
        for slot, one in list(source.measured.items()):
            if (one.who, one.seed) == source_key:
                self.measured.setdefault((slot[0], *key, slot[3]), replace(one, who=key[0], seed=key[1]))
        for (who, seed, output), made in list(source.artifacts.items()):
            if (who, seed) == source_key:
                self.artifacts.setdefault((*key, output), replace(made, who=key[0], seed=key[1]))

    def freeze(self) -> Attempt:
        cells = dict(self.cells)
        for key in self.points:
            cells.setdefault(key, Cell(*key, state="running"))
        return replace(
            self.value,
            cells=tuple(
                replace(cell, points=tuple(point for _, point in sorted(self.points.get(key, {}).items())))
                for key, cell in sorted(cells.items(), key=lambda one: _order(*one[0]))
            ),
            measurements=tuple(self.measured.values()),
            artifacts=tuple(self.artifacts.values()),
            samples=tuple(self.samples.values()),
        )


def _order(who: str, seed: int | None) -> tuple[bool, bool, str, int]:
    return who != "candidate", who != "control", who, -1 if seed is None else seed


@dataclass(slots=True)
class DraftStage:
    id: str
    kind: str = ""
    skipped: str = ""
    attempts: dict[int, DraftAttempt] = field(default_factory=dict)
