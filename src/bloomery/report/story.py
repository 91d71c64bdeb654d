"""The run as a story: who decided what when, in order, from the walk's first step to the last retry.

Told are the events that changed what happened next, and every event with a name that nobody foresaw (a note).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.report import wording
from bloomery.report.facts import Note
from bloomery.report.view import RunView

UNTOLD = frozenset(
    (
        "cell_started", "cell_finished", "cell_reused", "artifact", "packed", "budget_planned", "data_ready",
        "twin_solved",
    )
)  # fmt: skip
"""They stand in the tables of the report, and in the full log."""
ACTIONS = {
    "go_on": "The walk goes on",
    "retry": "Prescription",
    "not_promoted": "Not promoted",
    "stop": "Stop",
}


@dataclass(frozen=True, slots=True)
class Chapter:
    """`tone`: pass, fail, inconclusive, missing, notable or empty. `elapsed`: since the run was first opened."""

    elapsed: str
    title: str
    detail: str
    tone: str = ""


def story(view: RunView) -> tuple[Chapter, ...]:
    chapters: list[Chapter] = []
    opened = 0
    ended = {loop.id for loop in view.loops if loop.end is not None}
    closed = {stage.id for stage in view.stages if stage.cycle is not None and stage.cycle.loop in ended}
    for note in view.timeline:
        if note.event in UNTOLD:
            continue
        if note.event == "stage_skipped" and note.facts.get("stage") in closed:
            continue  # the loop has ended, and says so
        if note.event == "cell_failed" and "~" in str(note.facts.get("who", "")):
            continue  # a trial: what its sweep found is told
        opened += note.event == "run_opened"
        if note.event == "walk_started" and note.facts.get("walk", 1) == 1:
            continue
        title, detail, tone = _told(note, opened)
        chapters.append(Chapter(elapsed(view, note.time), title, detail, tone))
    return tuple(chapters)


def allowed(note: Note) -> tuple[str, ...]:
    """What a run was allowed to find changed when it went on here."""
    return tuple(map(str, note.facts.get("allowed_changes") or ())) if note.event == "resumed" else ()


def warnings(view: RunView) -> tuple[str, ...]:
    """One sentence for every time that the run went on though it was told that something may have changed."""
    return tuple(
        f"Resumed at {elapsed(view, note.time)} and allowed to find changed: {', '.join(keys)}. "
        "What ran from then on need not be what an undisturbed run gives."
        for note in view.timeline
        if (keys := allowed(note))
    )


def elapsed(view: RunView, time: str) -> str:
    """`0:04:18` since the run was opened; empty where a time cannot be read."""
    start, now = wording.when(view.header.opened), wording.when(time)
    if start is None or now is None:
        return ""
    seconds = max(0, int((now - start).total_seconds()))
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def _told(note: Note, opened: int) -> tuple[str, str, str]:
    facts = note.facts
    place = f"{facts.get('stage', '')}, attempt {facts.get('attempt', 1)}"
    match note.event:
        case "run_opened":
            detail = wording.said({"plan digest": wording.short(str(facts.get("digest", "")))})
            return (
                ("Run opened", detail, "")
                if opened == 1
                else ("Run opened again", "it goes on from what is done", "notable")
            )
        case "registered":
            return "Registered", f"digest {wording.short(str(facts.get('digest', '')))}", ""
        case "amended":
            return (
                "Registration amended",
                f"{facts.get('why', '')} (changed: {wording.said(facts.get('changed'))})",
                "notable",
            )
        case "walk_started":
            patches = facts.get("patches") or ()
            names = [f"{one.get('rule')} at {one.get('stage')}" for one in patches]
            return f"Walk {facts.get('walk')}", f"from the top, with {wording.listed(names) or 'no patch'}", ""
        case "stage_started":
            return f"Stage {place}", f"kind {facts['kind']}" if facts.get("kind") else "", ""
        case "stage_skipped":
            return f"Stage {facts.get('stage')} skipped", str(facts.get("why", "")), ""
        case "verdict":
            status = str(facts.get("status", "missing"))
            words = wording.STATUS_WORDS.get(status, status)
            conditions = facts.get("conditions") or ()
            held = sum(one.get("status") == "pass" for one in conditions)
            detail = f"{held} of {len(conditions)} conditions hold" if conditions else "no gate"
            return f"Gate of {place}: {words}", detail, status
        case "decision":
            return _decision(note, place)
        case "interrupted":
            return "Interrupted", wording.said(facts.get("signal")) if facts.get("signal") else "", "notable"
        case "resumed":
            changed = f"allowed to have changed: {', '.join(facts['allowed_changes'])}" if allowed(note) else ""
            return "Resumed", changed or _where(facts) or "it goes on from what is done", "notable"
        case "note":
            where = _where(facts)
            return "Note", f"{facts.get('text', '')}{f' ({where})' if where else ''}", "notable"
        case "run_finished":
            status = str(facts.get("status", ""))
            detail = str(facts.get("reason") or f"exit code {facts.get('exit_code', wording.NOTHING)}")
            return (
                f"Run {wording.STATUS_WORDS.get(status, status)}",
                detail,
                {"passed": "pass", "failed": "fail"}.get(status, "notable"),
            )
        case "sweep_chosen":
            who, chosen = wording.party(str(facts.get("who", ""))), facts.get("chosen")
            found = f"chose {wording.said(chosen)}" if chosen is not None else "found no value"
            tone = "" if chosen is not None else "fail"
            return f"Sweep of {place}: {who}", f"{found} by {facts.get('metric', '')}", tone
        case "candidate_chosen":
            several = facts.get("arms")
            how = f"the best of {len(several)} arms by {facts.get('metric', '')}" if several else "as the plan says"
            return f"Candidate of {place}: {wording.party(str(facts.get('candidate', '')))}", how, ""
        case "cycle_ended":
            end, tone = ("kept", "") if facts.get("kept") else ("undone", "notable")
            why = f"{facts['at']} did not pass: {facts.get('why', '')}" if facts.get("at") else ""
            return f"Cycle {facts.get('cycle')} of {facts.get('stage')} {end}", why, tone
        case "loop_ended":
            kept = f"{facts.get('cycles')} of {facts.get('of')} cycles kept"
            return f"Loop {facts.get('stage')} ended", f"{kept}; {facts.get('why', '')}", ""
        case "claim_judged":
            tone = {"supported": "pass", "refuted": "fail"}.get(str(facts.get("status")), "inconclusive")
            return f"Claim {facts.get('id')}: {facts.get('status')}", str(facts.get("says", "")), tone
        case "cell_failed":
            who = wording.party(str(facts.get("who", "")))
            return f"Cell failed: {who}, seed {facts.get('seed')}", f"{place}: {facts.get('error', '')}", "fail"
        case _:
            return note.event.replace("_", " ").capitalize(), wording.said(facts), "notable"


def _where(facts: Mapping[str, Any]) -> str:
    """`pretrain, attempt 1, candidate, seed 0, step 320`, as far as it is said."""
    words = [str(facts["stage"])] if "stage" in facts else []
    words += [f"attempt {facts['attempt']}"] if "attempt" in facts else []
    words += [wording.party(str(facts["who"]))] if "who" in facts else []
    return ", ".join(words + [f"{key} {facts[key]}" for key in ("seed", "step") if facts.get(key) is not None])


def _decision(note: Note, place: str) -> tuple[str, str, str]:
    facts = note.facts
    action = str(facts.get("action", ""))
    title = ACTIONS.get(action, action)
    if action != "retry":
        why = wording.said(facts.get("because") or facts.get("reason"))
        return f"{title}: {place}", why, "notable" if action != "go_on" or facts.get("rule") else ""
    change = wording.said(facts.get("set"))
    start = f", from the {facts['from']}" if facts.get("from") else ""
    return (
        f"{title}: {facts.get('rule', '')}",
        f"{str(facts.get('because', '')).rstrip('.')}. Sets {change}{start}.",
        "notable",
    )
