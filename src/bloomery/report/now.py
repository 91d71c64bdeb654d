"""What now: one command that fits where a run stands, and why; and what its improver is doing.

A failed run names the gate, the rules that were used up and those that did not apply. Reads the run, its lock and its
improver's record; changes nothing.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.engine.improving import CYCLE, Record, improver_name, read_record
from bloomery.engine.rundir import holder
from bloomery.report import wording
from bloomery.report.table import NextCommand, next_command, run_reference
from bloomery.report.view import RunView, StageView

SHOWN = 5
"""Cycles that are told for people; for programs all are."""


@dataclass(frozen=True, slots=True)
class ImproverState:
    """An improver as it is now. `state`: running, paused, ended, or killed."""

    state: str
    why: str
    record: Record

    @property
    def kept(self) -> int:
        return sum(cycle.verdict == "promoted" for cycle in self.record.cycles)

    def lines(self) -> list[str]:
        """The newest cycle last; of many only the newest."""
        cycles = self.record.cycles
        head = f"improver: {self.state}" + (f", {self.why}" if self.why else "")
        head += f"; {self.kept} of {wording.several(len(cycles), 'cycle')} promoted"
        return [head, *(f"  cycle {cycle.number}: {cycle.verdict}; {cycle.why}" for cycle in cycles[-SHOWN:])]

    def to_json(self) -> dict[str, Any]:
        cycles = [{"cycle": one.number, "verdict": one.verdict, "why": one.why} for one in self.record.cycles]
        holds = {name: {"path": str(one.folder), "digest": one.digest} for name, one in self.record.held.items()}
        promoted = self.record.promoted
        return {"state": self.state, "why": self.why, "cycles": cycles, "promoted": promoted, "holds": holds}


def improver_of(view: RunView) -> ImproverState | None:
    """Of a run beside whose folder an improver has been; None where none has."""
    folder = improver_folder(view)
    record = read_record(folder)
    if record.last is None:
        return None
    said, why = record.last["event"], str(record.last.get("why", ""))
    if holder(folder):
        return ImproverState(*(("paused", why) if said == "paused" else ("running", _cycle(record))), record)
    if said == "ended":
        return ImproverState("ended", why, record)
    return ImproverState("killed", "nothing is lost: it goes on where it was", record)


def improver_folder(view: RunView) -> Path:
    return view.folder.with_name(improver_name(view.folder.name))


def what_now(view: RunView, improver: ImproverState | None) -> NextCommand:
    run = shlex.quote(run_reference(view))
    if view.status in ("unfinished", "interrupted") and (who := holder(view.folder)):
        return NextCommand(f"bloomery status {run}", f"it is at work ({who})")
    plain = next_command(view)
    if view.status == "failed":
        why = [*_failures(view), f"read {view.folder / 'report.html'}", plain.why]
        return NextCommand(plain.command, "\n".join(why))
    if view.status != "passed":
        return plain
    if improver is not None and "model" in improver.record.held:
        model = shlex.quote(str(improver.record.held["model"].folder))
        return NextCommand(f"bloomery serve {model}", f"what cycle {improver.record.promoted} was promoted with")
    if improver is None and any(loop.end is not None for loop in view.loops) and not (view.folder / CYCLE).exists():
        why = "makes further cycles of its loop; or bloomery serve, eval, export"
        return NextCommand(f"bloomery improve {run}", why)
    if plain.command.startswith("bloomery generate"):
        return NextCommand(plain.command, f"{plain.why}; or bloomery serve, eval, export with {run}")
    return plain


def _failures(view: RunView) -> list[str]:
    """A line for every stage that ended the run, or whose gate stays failed."""
    return [_failure(stage) for stage in view.stages if _failed(stage)]


def _failed(stage: StageView) -> bool:
    last = stage.last
    if last is None or last.verdict is None or last.verdict.status == "pass" or last.not_promoted:
        return False
    return last.decision is None or last.decision.action in ("stop", "go_on")


def _failure(stage: StageView) -> str:
    assert stage.last is not None
    verdict = stage.last.verdict
    assert verdict is not None
    missed = [one for one in verdict.conditions if one.status != "pass"]
    found = [f"{wording.asked(one)} found {wording.condition_value(one)}" for one in missed]
    parts = [f"{stage.id}: {'; '.join(found) or verdict.reason or verdict.status}"]
    used = [attempt.decision.rule for attempt in stage.attempts if attempt.decision and attempt.decision.rule]
    names = [rule.name for rule in stage.spec.on_fail] if stage.spec is not None else []
    parts += [f"rules used: {', '.join(dict.fromkeys(used))}"] if used else []
    left = [name for name in names if name not in used]
    parts += [f"did not apply: {', '.join(left)}"] if left else []
    parts += ["no rule answers it"] if not names and not used else []
    return ". ".join(parts)


def _cycle(record: Record) -> str:
    return f"cycle {len(record.cycles) + 1}"
