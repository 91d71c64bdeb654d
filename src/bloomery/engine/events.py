"""events.jsonl: one line per fact, appended and flushed; the truth about a run. Everything else is derived from it.

A process killed while writing leaves a torn last line: readers ignore it, the next writer cuts it off.
"""

from __future__ import annotations

import datetime
import json
import os
from pathlib import Path
from typing import Any

from bloomery.errors import ArtifactError

Event = dict[str, Any]


class EventLog:
    """The only writer of a run's events. `sync=True` waits for the disk: for facts that decisions rest on."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(file)

    def write(self, event: str, *, sync: bool = True, **facts: Any) -> Event:
        line: Event = {"event": event, "time": now(), **facts}
        try:
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
        except OSError as error:
            raise ArtifactError(
                str(self.file), f"cannot be written: {error.strerror}", hint="free some space and run again: it goes on"
            ) from error
        return line


def read_events(file: Path) -> list[Event]:
    """All whole lines, in order. Raises ArtifactError for a damaged line that is not the last."""
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")
    whole, torn = lines[:-1], lines[-1]
    events: list[Event] = []
    for number, line in enumerate(whole, start=1):
        try:
            event = json.loads(line)
            if not isinstance(event, dict) or "event" not in event:
                raise ValueError("not an event")
            events.append(event)
        except ValueError as error:
            if number == len(whole) and not torn:
                break
            raise ArtifactError(
                f"{file}:{number}", f"damaged line ({error})", "one JSON object a line", "restore it from a backup"
            ) from None
    return events


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _cut_torn_line(file: Path) -> None:
    if not file.exists() or file.stat().st_size == 0:
        return
    with file.open("r+b") as stream:
        content = stream.read()
        if not content.endswith(b"\n"):
            stream.truncate(content.rfind(b"\n") + 1)
