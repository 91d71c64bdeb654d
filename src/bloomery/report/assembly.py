"""Events -> RunView by way of the reader: in the order of the plan, cycles under their loops, unanswered claims too.

Without a plan the order is that of the events, and a stage `LOOP-2-NAME` of a loop that the events name is in its
second cycle.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bloomery.engine.events import FAULTS, illegible
from bloomery.plan.cast import claimed_stage, conditions_of_claim
from bloomery.plan.schema import Cycle, Plan, StageSpec
from bloomery.report.drafts import DraftLoop, DraftStage
from bloomery.report.facts import Claimed, Facts, Note
from bloomery.report.parsing import facts
from bloomery.report.replay import AMOUNTS, HELD, Reader
from bloomery.report.view import LoopView, RunView, StageView

QUIET = frozenset({"point", "measured", "sample", "budget_spent", "evaluated", "spent"})
"""Too many to be told one by one; the report draws or tabulates them."""


def replay(
    folder: Path,
    events: Sequence[Facts],
    plan: Plan | None = None,
    place: Callable[[Facts], str] = lambda _: "events.jsonl",
) -> RunView:
    """All events of one run, oldest first. `plan`: as it is walked, where it is known.

    place: where an event stands, for the ArtifactError that says what it lacks."""
    reader = Reader()
    for event in events:
        try:
            reader.take(event)
        except FAULTS as error:
            raise illegible(event, place(event), error) from error
    reader.close_spans(reader.last_time, "running")
    stages = _stages(reader, plan)
    loops = _loops(reader, plan, stages)
    names = {loop.id for loop in loops}
    return RunView(
        folder=folder,
        header=reader.header,
        registration=reader.registration,
        amendments=tuple(reader.amendments),
        stages=tuple(stage for stage in stages if stage.id not in names),
        walks=reader.walks,
        planned=reader.planned,
        spent={
            name: max(reader.spent.get(name, 0.0), reader.counted.get(name, 0.0))
            for name in (*AMOUNTS, *HELD)
            if name in reader.spent or name in reader.counted
        },
        data=reader.data,
        timeline=tuple(
            Note(str(event.get("time", "")), str(event["event"]), facts(event))
            for event in events
            if event["event"] not in QUIET
        ),
        spans=tuple(reader.spans),
        status=reader.status,
        exit_code=reader.exit_code,
        reason=reader.reason,
        updated=str(events[-1].get("time", "")) if events else "",
        plan=plan,
        loops=loops,
        claims=_claims(reader, plan),
        spent_by=reader.spent_by or _spent_by_cells(stages),
    )


def _stages(reader: Reader, plan: Plan | None) -> list[StageView]:
    """Loops among them, as stages that never ran."""
    specs = {spec.id: spec for spec in plan.stages} if plan is not None else {}
    names = list(dict.fromkeys([*specs, *reader.stages]))
    found: list[StageView] = []
    for name in names:
        draft, spec = reader.stages.get(name, DraftStage(name)), specs.get(name)
        stage = draft.freeze(spec, reader.judged)
        found.append(stage if spec is not None else replace(stage, cycle=_cycle(name, reader.loops)))
    return found


def _cycle(stage: str, loops: Mapping[str, DraftLoop]) -> Cycle | None:
    for loop in loops:
        place = re.fullmatch(rf"{re.escape(loop)}-(\d+)-(.+)", stage)
        if place is not None:
            return Cycle(loop=loop, number=int(place[1]), stage=place[2], last=False)
    return None


def _loops(reader: Reader, plan: Plan | None, stages: Sequence[StageView]) -> tuple[LoopView, ...]:
    specs: dict[str, StageSpec] = (
        {spec.id: spec for spec in plan.stages if spec.repeat is not None} if plan is not None else {}
    )
    by_id = {stage.id: stage for stage in stages}
    found: list[LoopView] = []
    for name in dict.fromkeys([*specs, *reader.loops]):
        draft = reader.loops.get(name, DraftLoop(name))
        of = (specs[name].repeat or 0) if name in specs else draft.end.of if draft.end is not None else 0
        inside = tuple(stage for stage in stages if stage.cycle is not None and stage.cycle.loop == name)
        ends = tuple(end for _, end in sorted(draft.ends.items()))
        skipped = by_id[name].skipped if name in by_id else ""
        found.append(LoopView(name, of, ends, draft.end, inside, skipped))
    return tuple(found)


def _claims(reader: Reader, plan: Plan | None) -> tuple[Claimed, ...]:
    unanswered: dict[str, Claimed] = {}
    for claim in plan.claims if plan is not None else ():
        spoken = next((one for one in map(claimed_stage, conditions_of_claim(claim)) if one is not None), None)
        of = f"stage:{spoken.stage}" if spoken is not None else ""
        unanswered[claim.id] = Claimed(claim.id, claim.says, claim.source, claim.rows, of)
    return tuple({**unanswered, **reader.claims}.values())


def _spent_by_cells(stages: Sequence[StageView]) -> dict[tuple[str, str], Facts]:
    """For logs that do not say where spending went: what finished cells cost."""
    out: dict[tuple[str, str], dict[str, float]] = {}
    for stage in stages:
        for attempt in stage.attempts:
            for cell in (*attempt.cells, *attempt.trials):
                if cell.state == "finished":
                    amounts = out.setdefault((stage.id, cell.who), {})
                    for name in ("tokens", "flops", "seconds"):
                        amounts[name] = amounts.get(name, 0.0) + (getattr(cell, name) or 0.0)
    return dict(out)
