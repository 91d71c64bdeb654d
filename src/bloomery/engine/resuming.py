"""What a resumed run keeps of how it began: threads and precision; and what may differ only where it is told so.

Another number of threads or another precision is another run to the last bit, so both stay what they were wherever it
goes on. Another kind of device, other text under the same plan, another world or batch are refused unless
`--allow-changed` names them; then the event `resumed` says so, and the report repeats it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from bloomery.engine.events import Event
from bloomery.errors import ArtifactError, BloomeryError, nearest

CHANGES: Mapping[str, str] = {
    "device": "the kind of device; the precision stays as it was",
    "data": "the text under the same plan; what was trained on the text as it was is trained anew",
    "world": "the number of processes",
    "batch": "the shape of the batch that one process reads",
}
"""{key of `--allow-changed`: what may then be another}."""


def check_known(keys: Iterable[str]) -> None:
    """Raise BloomeryError for a key that nothing asks for."""
    for key in keys:
        if key not in CHANGES:
            raise BloomeryError(
                "--allow-changed", f"no such key '{key}'", "one of: " + ", ".join(CHANGES), nearest(key, CHANGES)
            )


def begun_with(events: Iterable[Event], name: str) -> Any:
    """What the first provenance that says it says of `name` (threads, precision); None before there is any."""
    return next(_said(events, name), None)


def precision_note(kept: str, native: str, device: str) -> str:
    """What to tell where the run's precision is not the one that this machine would choose; else nothing."""
    if kept == native:
        return ""
    why = "which is emulated here" if native == "fp32" else f"though this machine would choose {native}"
    return f"precision {kept}, as this run began, {why} ({device})"


def check_device(events: Iterable[Event], device: str, where: str, allowed: Collection[str] = ()) -> None:
    """Raise ArtifactError where the run was last carried on by another kind of device; its number does not matter."""
    last = next(reversed([*_said(events, "device")]), None)
    if last is not None and _kind(last) != _kind(device) and "device" not in allowed:
        raise ArtifactError(
            f"{where}: device", f"this is {device}", f"{last}, as the run has it so far",
            f"--device {last}, or --allow-changed device",
        )  # fmt: skip


def check_data(events: Iterable[Event], digest: str, plan: str, where: str, allowed: Collection[str] = ()) -> bool:
    """Whether this data is what the run has so far. plan: its digest; an amended plan may bring data of its own.

    Raises ArtifactError where the plan is the same and the text behind it is not."""
    last, its_plan = None, None
    for event in events:
        its_plan = event.get("digest") if event["event"] in ("run_opened", "resumed") else its_plan
        last = (event.get("digest"), its_plan) if event["event"] == "data_ready" else last
    if last is None or last[0] == digest:
        return last is not None
    if last[1] == plan and "data" not in allowed:
        raise ArtifactError(
            f"{where}: data", f"the prepared text has digest {digest[:12]}", f"{str(last[0])[:12]}, as the run began",
            "put the text back, or --allow-changed data: what is not of this text is then trained anew",
        )  # fmt: skip
    return False


def _kind(device: str) -> str:
    return str(device).partition(":")[0]


def _said(events: Iterable[Event], name: str) -> Iterator[Any]:
    for event in events:
        provenance = event.get("provenance") if event["event"] in ("run_opened", "resumed") else None
        if isinstance(provenance, Mapping) and provenance.get(name) is not None:
            yield provenance[name]
