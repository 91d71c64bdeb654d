"""Freezing a plan before its first step, and amending it in the open: an append-only file of JSON lines.

Registered is the plan resolved up to its `set`: hypothesis, variable, control, prediction (its gates in words), fail
conditions (its rules in words), and the canonical form with its sha256. Nothing is ever rewritten; a change of a
registered plan is an amendment that says why and what it touches. A plan without a hypothesis, or changed by `--set`,
is exploratory and never registered. A process killed while appending leaves a torn last line: readers ignore it, the
next append cuts it off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from bloomery.errors import ArtifactError, PlanError
from bloomery.plan.canon import canonical, changed_paths, digest
from bloomery.plan.load import Loaded
from bloomery.plan.schema import StageSpec
from bloomery.plan.words import control_words, rule_words, words

LOG = "registration.jsonl"
"""Its name in a run folder."""

State = Literal["exploratory", "unregistered", "registered", "changed"]


@dataclass(frozen=True, slots=True)
class Registration:
    """One line of the log. The first registers; each further one amends the line before it."""

    plan: str
    digest: str
    """sha256 of `canonical`."""
    time: str
    """ISO 8601, UTC."""
    commit: str | None
    hypothesis: str
    variable: str | None
    control: str
    prediction: tuple[str, ...]
    """`STAGE: CONDITION`, every condition of every gate."""
    fail_conditions: tuple[str, ...]
    """What is done when a gate fails, in order."""
    canonical: str
    why: str | None = None
    """Of an amendment."""
    before: str | None = None
    """The digest that an amendment replaces."""
    changed: tuple[str, ...] = ()
    """The key paths that an amendment touches."""

    @property
    def is_amendment(self) -> bool:
        return self.before is not None

    def to_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value is not None}

    def event(self) -> dict[str, Any]:
        """What the run's events say of it: `registered`, or `amended`."""
        if self.is_amendment:
            return {"event": "amended", "why": self.why, "before": self.before, "after": self.digest,
                    "changed": list(self.changed)}  # fmt: skip
        names = ("digest", "commit", "hypothesis", "variable", "control")
        lists = {"prediction": list(self.prediction), "fail_conditions": list(self.fail_conditions)}
        return {"event": "registered", **{name: getattr(self, name) for name in names}, **lists}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Registration:
        lists: dict[str, Any] = {
            name: tuple(data.get(name, ())) for name in ("prediction", "fail_conditions", "changed")
        }
        optional: dict[str, Any] = {name: data.get(name) for name in ("commit", "variable", "why", "before")}
        required: dict[str, Any] = {
            name: data[name] for name in ("plan", "digest", "time", "hypothesis", "control", "canonical")
        }
        return Registration(**required, **optional, **lists)


def read(log: Path) -> tuple[Registration, ...]:
    """The whole lines of the log, oldest first; empty where there is none. Raises ArtifactError where one is damaged
    or was altered."""
    if not log.exists():
        return ()
    found: list[Registration] = []
    for number, line in enumerate(log.read_bytes().split(b"\n")[:-1], start=1):
        place, hint = f"{log}:{number}", "this file is never edited; restore it, or begin in another runs folder"
        try:
            record = Registration.from_json(json.loads(line))
            plain = json.loads(record.canonical)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ArtifactError(place, "a damaged line", "a registration", hint) from None
        if digest(plain) != record.digest or record.before != (found[-1].digest if found else None):
            raise ArtifactError(place, "does not fit its digest", f"sha256 {record.digest[:12]}", hint)
        found.append(record)
    return tuple(found)


def state(log: Path, loaded: Loaded) -> State:
    """Where a plan stands against its registration log."""
    if loaded.exploratory:
        return "exploratory"
    known = read(log)
    if not known:
        return "unregistered"
    return "registered" if known[-1].digest == loaded.digest else "changed"


def register(log: Path, loaded: Loaded, *, commit: str | None = None) -> Registration:
    """Write the first line of the log; if it stands there already, return it.

    Raises PlanError for an exploratory plan, or where another version is registered.
    """
    known = read(log)
    _confirmable(loaded)
    if known:
        if known[-1].digest == loaded.digest:
            return known[-1]
        touched = ", ".join(changes(log, loaded))
        raise PlanError(
            str(loaded.source),
            f"differs from what is registered at {touched or 'its order'}",
            f"sha256 {known[-1].digest[:12]}",
            'say why: bloomery register --amend "..."',
        )
    record = _record(loaded, commit)
    _append(log, record)
    return record


def amend(log: Path, loaded: Loaded, why: str, *, commit: str | None = None) -> Registration:
    """Append a change to a registered plan. Raises PlanError without a reason, a registration or a change."""
    _confirmable(loaded)
    known = read(log)
    if not known:
        raise PlanError(str(loaded.source), "is not registered", "a registered plan", "bloomery register PLAN")
    if not why.strip():
        raise PlanError("--amend", "an empty reason", "why the registered plan changes")
    if known[-1].digest == loaded.digest:
        raise PlanError(str(loaded.source), "is what is registered", "a plan that changed")
    record = _record(loaded, commit, why=why.strip(), before=known[-1].digest, changed=tuple(changes(log, loaded)))
    _append(log, record)
    return record


def changes(log: Path, loaded: Loaded) -> list[str]:
    """The key paths at which a plan differs from its last registration; empty where there is none."""
    known = read(log)
    if not known:
        return []
    return changed_paths(json.loads(known[-1].canonical), json.loads(canonical(loaded.plan)))


def _confirmable(loaded: Loaded) -> None:
    if loaded.overrides:
        found = f"changed by --set {loaded.overrides[0]}"
        raise PlanError(str(loaded.source), found, "the plan as written", "write the change into the plan's own `set`")
    if loaded.plan.hypothesis is None:
        raise PlanError(
            str(loaded.source), "has no hypothesis", "hypothesis: what is claimed", "without one it is exploratory"
        )


def _record(
    loaded: Loaded,
    commit: str | None,
    *,
    why: str | None = None,
    before: str | None = None,
    changed: tuple[str, ...] = (),
) -> Registration:
    plan = loaded.plan
    text = canonical(plan)
    stages = list(_all(plan.stages))
    return Registration(
        plan=plan.name,
        digest=loaded.digest,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=commit,
        hypothesis=(plan.hypothesis or "").strip(),
        variable=plan.variable,
        control=control_words(plan.control),
        prediction=tuple(f"{stage.id}: {words(condition)}" for stage in stages for condition in stage.gate),
        fail_conditions=tuple(rule_words(stage, rule) for stage in stages for rule in stage.on_fail),
        canonical=text,
        why=why,
        before=before,
        changed=changed,
    )


def _all(stages: tuple[StageSpec, ...]) -> list[StageSpec]:
    return [found for stage in stages for found in (stage, *_all(stage.stages))]


def _append(log: Path, record: Registration) -> None:
    """One write at the end of the file, after its last whole line, and on the disk before anything runs."""
    line = json.dumps(record.to_json(), ensure_ascii=False) + "\n"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab+") as stream:
            stream.seek(0)
            stream.truncate(stream.read().rfind(b"\n") + 1)
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise ArtifactError(
            str(log), f"cannot be written: {error.strerror}", hint="choose another --runs folder"
        ) from None
