"""What `bloomery register` wrote beside the events, told among them: who registers first and runs later has both."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from bloomery.plan import registration
from bloomery.report import wording
from bloomery.report.facts import Facts

LOG = "registration.jsonl"
REGISTERS = frozenset({"registered", "amended"})


def with_registrations(events: Sequence[Facts], folder: Path) -> list[Facts]:
    """The events, and whatever `bloomery register` wrote beside them that they do not tell, by time."""
    known = {str(event.get("digest") or event.get("after")) for event in events if event["event"] in REGISTERS}
    added = [
        {"time": record.time, **record.event()}
        for record in registration.read(folder / LOG)
        if record.digest not in known
    ]
    if not events or not added:
        return list(events)
    first = wording.when(str(events[0].get("time", ""))) or datetime.datetime.min.replace(tzinfo=datetime.UTC)
    return sorted([*events, *added], key=lambda event: wording.when(str(event.get("time", ""))) or first)
