"""How long the planned cells will still take, at the speed of those that have run. An estimate, shown and never stored.

A cell's size is the time that the price table gives it; the speed is what cells of the same party of the stage took of
that, else what all took. Evaluations and remedies that were not used yet are not in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

Place = tuple[str, str]
"""(stage, party); a trial of a sweep belongs to its party"""


class Remaining:
    """Is shown every event, those of an earlier process included, and `planned`, which says what there is to do."""

    def __init__(self) -> None:
        self._cells: dict[Place, int] = {}
        self._size: dict[Place, float] = {}
        self._done: dict[Place, int] = defaultdict(int)
        self._closed: set[str] = set()
        self._lost: set[Place] = set()
        self._took: dict[Place, tuple[float, float]] = {}
        """{place: (seconds, size of what they were spent on)}"""
        self._now: tuple[Place, float, float] | None = None
        """The running cell: its place, its share that is done, seconds so far."""

    def take(self, event: Mapping[str, Any]) -> None:
        stage, who = str(event.get("stage", "")), str(event.get("who", ""))
        place = (stage, who.partition("~")[0])
        match event["event"]:
            case "planned":
                self._plan(event)
            case "stage_started":
                self._reopen(stage)
            case "cell_started":
                self._now = None
            case "progress" if event.get("steps") and "tokens" in event:
                speed = event.get("tokens_per_second") or 0.0
                self._now = (place, event["step"] / event["steps"], event["tokens"] / speed if speed else 0.0)
            case "cell_finished":
                self._done[place] += 1
                self._learn(place, 1.0, float(event.get("seconds") or 0.0))
                self._now = None
            case "cell_failed":
                self._done[place] += 1
                self._now = None
                if "~" not in who:
                    self._lost.add(place)
            case "cell_reused" if event.get("of") and not _is_trial_of(event):
                self._done[place] += 1
            case "sweep_chosen" if event.get("chosen") is None:
                self._lost.add(place)
            case "verdict" | "stage_skipped":
                self._closed.add(stage)
            case _:
                pass

    def _plan(self, event: Mapping[str, Any]) -> None:
        for one in event["cells"]:
            place = (one["stage"], one["who"])
            self._cells[place] = one["cells"]
            self._size[place] = one["seconds"]

    def _reopen(self, stage: str) -> None:
        """Another attempt runs all its cells, as far as they are not taken over."""
        self._closed.discard(stage)
        for place in [one for one in (*self._done, *self._lost) if one[0] == stage]:
            self._done.pop(place, None)
            self._lost.discard(place)

    def _learn(self, place: Place, share: float, seconds: float) -> None:
        before_seconds, before_size = self._took.get(place, (0.0, 0.0))
        self._took[place] = (before_seconds + seconds, before_size + share)

    @property
    def seconds(self) -> float | None:
        """Of training that is left; None while nothing has run that could tell."""
        left = {
            place: float(max(0, cells - self._done[place]))
            for place, cells in self._cells.items()
            if place[0] not in self._closed and place not in self._lost
        }
        took = dict(self._took)
        if self._now is not None:
            place, share, seconds = self._now
            left[place] = max(0.0, left.get(place, 1.0) - share)
            known = took.get(place, (0.0, 0.0))
            took[place] = (known[0] + seconds, known[1] + share)
        worked = sum(seconds for seconds, _ in took.values())
        sizes = sum(cells * self._size.get(place, 0.0) for place, (_, cells) in took.items())
        if not worked or not self._cells:
            return None
        total = 0.0
        for place, cells in left.items():
            seconds, share = took.get(place, (0.0, 0.0))
            if share > 0:
                total += cells * seconds / share
            elif sizes:
                total += cells * self._size.get(place, 0.0) * worked / sizes
        return total


def _is_trial_of(event: Mapping[str, Any]) -> bool:
    """Whether it is the winner of the party's own sweep, which was counted when it ran as a trial."""
    stage, attempt, who, _ = event["of"]
    return "~" in str(who) and (stage, attempt) == (event["stage"], event["attempt"])
