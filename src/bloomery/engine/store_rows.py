"""Events of one run as the rows of the index: pure, and complete. See engine.store for the tables.

What comes later wins: a resumed cell measures its last looks again, and a stage is judged anew on each walk.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from bloomery.engine.events import Event
from bloomery.measure import Interval, Measurement

Row = tuple[Any, ...]

REOPENING = frozenset(("run_opened", "resumed", "walk_started", "cell_started"))
"""After one of these a run is unfinished again, whatever it was."""


def rows_of(run: str, events: Sequence[Event]) -> dict[str, list[Row]]:
    """{table: rows}; the run's own row without the size and time of its events.

    Raises KeyError, TypeError or ValueError where an event lacks what it must have.
    """
    return {
        "runs": [_run_row(run, events)],
        "stages": _stage_rows(run, events),
        "verdicts": _verdict_rows(run, events),
        "measurements": _measured_rows(run, events),
    }


def measurement_of(row: Row) -> Measurement:
    """(name, value, n, low, high, level, seed, unit, who, step) as it was indexed. SQLite keeps NaN as NULL."""
    name, value, n, low, high, level, seed, unit, who, step = row
    between = None if low is None or high is None else Interval(low, high, level)
    return Measurement(name, math.nan if value is None else value, n, between, seed, unit, who, step)


def _run_row(run: str, events: Sequence[Event]) -> Row:
    opened: Mapping[str, Any] = {}
    status, exit_code = "unfinished", None
    for event in events:
        name = event["event"]
        if name == "run_opened":
            opened = opened or event
        if name == "run_finished":
            status, exit_code = str(event["status"]), event.get("exit_code")
        elif name == "interrupted":
            status, exit_code = "interrupted", None
        elif name in REOPENING:
            status, exit_code = "unfinished", None
    times = [str(event.get("time", "")) for event in events]
    return (
        run, str(opened.get("plan", "")), str(opened.get("digest", "")), str(opened.get("mode", "")), status, exit_code,
        times[0] if times else "", times[-1] if times else "", "",
    )  # fmt: skip


def _stage_rows(run: str, events: Sequence[Event]) -> list[Row]:
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for event in events:
        if event["event"] in ("stage_started", "verdict", "decision"):
            row = rows.setdefault((event["stage"], int(event["attempt"])), {})
            if event["event"] == "stage_started":
                row |= {"kind": event.get("kind"), "fingerprint": event.get("fingerprint")}
            elif event["event"] == "verdict":
                row["verdict"] = event["status"]
            else:
                row |= {"action": event["action"], "rule": event.get("rule")}
    columns = ("kind", "fingerprint", "verdict", "action", "rule")
    return [(run, *key, *(row.get(column) or "" for column in columns)) for key, row in rows.items()]


def _verdict_rows(run: str, events: Sequence[Event]) -> list[Row]:
    last = {(one["stage"], int(one["attempt"])): one["conditions"] for one in events if one["event"] == "verdict"}
    return [
        (run, *key, place, one["status"], one.get("words", ""), json.dumps(one))
        for key, conditions in last.items()
        for place, one in enumerate(conditions)
    ]


def _measured_rows(run: str, events: Sequence[Event]) -> list[Row]:
    """The last word on each: a resumed cell measures its last looks again."""
    rows: dict[Row, Row] = {}
    for event in events:
        if event["event"] == "measured":
            one = Measurement.from_json(event["measurement"])
            stage, attempt = str(event.get("stage", "")), int(event.get("attempt", 0))
            place = (run, stage, attempt, one.who, one.seed, one.name, one.step)
            found = one.interval
            between = (found.low, found.high, found.level) if found else (None, None, None)
            rows[place] = (*place, one.value, one.n, *between, one.unit)
    return list(rows.values())
