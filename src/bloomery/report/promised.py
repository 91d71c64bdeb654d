"""The plan of a run, as it is walked: from its first event, from its registration, or by reading its text again.

A report is written of whatever is left. Where no plan can be had (a log of an older version, a file that it extends and
that is gone) there is none, and the report tells only what the events tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bloomery.errors import BloomeryError
from bloomery.plan import registration
from bloomery.plan.load import load_text
from bloomery.plan.schema import Plan
from bloomery.plan.unroll import unroll, with_cycles
from bloomery.report.facts import Facts


def plan_of(events: Sequence[Facts], folder: Path) -> Plan | None:
    """The plan of the latest opening that says which it is."""
    opening = next((one for one in reversed(events) if one.get("plan_text") or one.get("canonical")), None)
    if opening is None:
        return None
    try:
        text = opening.get("canonical") or _registered(folder, str(opening.get("digest") or ""))
        return _walked(json.loads(text)) if text else _read_again(opening)
    except (BloomeryError, ValueError, TypeError, KeyError, OSError, AssertionError):
        return None


def _registered(folder: Path, digest: str) -> str:
    records = registration.read(folder / registration.LOG)
    return next((one.canonical for one in reversed(records) if one.digest == digest), "")


def _read_again(opening: Facts) -> Plan:
    overrides = opening.get("overrides") or {}
    said = [f"{path}={value}" for path, value in overrides.items()] if isinstance(overrides, Mapping) else overrides
    loaded = load_text(str(opening["plan_text"]), Path(str(opening.get("source") or "plan.yaml")), list(said))
    return _walked(loaded.plan.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def _walked(raw: Mapping[str, Any]) -> Plan:
    unrolled, cycles = unroll(Plan.model_validate(raw).model_dump(mode="json", by_alias=True, exclude_defaults=True))
    return with_cycles(Plan.model_validate(unrolled), cycles)
