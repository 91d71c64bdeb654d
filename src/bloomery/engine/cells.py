"""Fingerprints: what must be equal for a cell, one seed of one party in a stage, not to be run again.

A fingerprint covers the kind, its resolved settings, the digests of inputs and data, the seed and the system's source;
never device, path or worker count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bloomery.plan.canon import digest

FINGERPRINT_VERSION = 1
"""Raised when the same settings begin to mean something else."""


def cell_fingerprint(
    kind: str,
    config: Mapping[str, Any],
    *,
    inputs: Mapping[str, str],
    data: str | None,
    seed: int,
    system: str,
    continue_from: str | None,
    stop_if: Sequence[Mapping[str, Any]] = (),
) -> str:
    """`stop_if`: the conditions that may end this cell early."""
    facts: dict[str, Any] = {
        "version": FINGERPRINT_VERSION,
        "kind": kind,
        "config": dict(config),
        "inputs": dict(inputs),
        "data": data,
        "seed": seed,
        "source": source_digest(system),
        "continue_from": continue_from,
    }
    return digest({**facts, "stop_if": list(stop_if)} if stop_if else facts)


@cache
def source_digest(system: str) -> str:
    """sha256 over a bundled system's own source files; a system installed from elsewhere is covered by its name."""
    outer = hashlib.sha256(system.encode())
    folder = Path(__file__).parent.parent / "systems" / system
    for file in sorted(folder.glob("**/*.py")):
        outer.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return outer.hexdigest()
