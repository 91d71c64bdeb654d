"""events.jsonl: one line per fact, appended and flushed; the truth about a run. Everything else is derived from it.

A process killed while writing leaves a torn last line: readers ignore it, the next writer cuts it off. A write that
fails leaves the file as it was.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bloomery.errors import ArtifactError

Event = dict[str, Any]

FAULTS = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What reading an event raises where it is JSON, and not what we wrote."""


class EventLog:
    """The only writer of a run's events. `sync=True` waits for the disk: for facts that decisions rest on."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            _cut_torn_line(file)
        except OSError as error:
            raise _unwritable(file, error) from error

    def write(self, event: str, *, sync: bool = True, **facts: Any) -> Event:
        line: Event = {"event": event, "time": now(), **facts}
        content = json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        size = None
        try:
            with self.file.open("ab") as stream:
                size = stream.tell()
                stream.write(content)
                stream.flush()
                if sync:
                    os.fsync(stream.fileno())
        except OSError as error:
            if size is not None:
                with contextlib.suppress(OSError):  # a torn line is cut when the file is next opened
                    os.truncate(self.file, size)
            raise _unwritable(self.file, error) from error
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
            events.append(_event(line))
        except ValueError as error:
            if number == len(whole) and not torn:
                break
            raise ArtifactError(
                f"{file}:{number}", f"damaged line ({error})", "one JSON object a line", "restore it from a backup"
            ) from None
    return events


def illegible(event: Mapping[str, Any], where: str, error: Exception) -> ArtifactError:
    """The one error for an event that lacks a field, or holds something else in it. where: `events.jsonl:7`."""
    missing = error.args[0] if isinstance(error, KeyError) else None
    if isinstance(missing, str):
        what = f"lacks '{missing}'"
    elif missing is not None:
        what = f"speaks of {missing}, of which no event before it tells"
    else:
        what = f"cannot be read ({error})"
    return ArtifactError(
        where, f"the event '{event['event']}' {what}", "an event as Bloomery writes it",
        "restore the line from a backup; without one delete it and all after it: a run does that again",
    )  # fmt: skip


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _event(line: bytes) -> Event:
    event = json.loads(line)
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise ValueError("not an event")
    return event


def _cut_torn_line(file: Path) -> None:
    """Cut off what a reader would ignore: a last line without its end, else a last line that is no event."""
    if not file.exists():
        return
    with file.open("r+b") as stream:
        content = stream.read()
        whole = content[: content.rfind(b"\n") + 1]
        if whole == content and whole:
            before = whole.rfind(b"\n", 0, -1) + 1
            try:
                _event(whole[before:])
            except ValueError:
                whole = whole[:before]
        if whole != content:
            stream.truncate(len(whole))


def _unwritable(file: Path, error: OSError) -> ArtifactError:
    hint = "free some space, or choose another --runs folder, and run again: it goes on"
    return ArtifactError(str(file), f"cannot be written: {error.strerror or error}", hint=hint)
