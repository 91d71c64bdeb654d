"""What a resumed run keeps of how it began: threads, precision, the kind of device.

Another number of threads or another precision is another run to the last bit, so both stay what they were wherever it
goes on. Another kind of device is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from bloomery.engine.events import Event
from bloomery.errors import ArtifactError


def begun_with(events: Iterable[Event], name: str) -> Any:
    """What the first provenance that says it says of `name` (threads, precision); None before there is any."""
    return next(_said(events, name), None)


def precision_note(kept: str, native: str, device: str) -> str:
    """What to tell where the run's precision is not the one that this machine would choose; else nothing."""
    if kept == native:
        return ""
    why = "which is emulated here" if native == "fp32" else f"though this machine would choose {native}"
    return f"precision {kept}, as this run began, {why} ({device})"


def check_device(events: Iterable[Event], device: str, where: str) -> None:
    """Raise ArtifactError where the run was last carried on by another kind of device; its number does not matter."""
    last = next(reversed([*_said(events, "device")]), None)
    if last is not None and _kind(last) != _kind(device):
        raise ArtifactError(
            f"{where}: device", f"this is {device}", f"{last}, as the run has it so far",
            f"--device {last}, or another folder (--runs)",
        )  # fmt: skip


def _kind(device: str) -> str:
    return device.partition(":")[0]


def _said(events: Iterable[Event], name: str) -> Iterator[Any]:
    for event in events:
        if event["event"] in ("run_opened", "resumed") and name in event.get("provenance", {}):
            yield event["provenance"][name]
