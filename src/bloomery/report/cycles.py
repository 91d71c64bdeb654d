"""Loops, a row a cycle: kept or undone, at which stage and why, and what the gates found on the way."""

from __future__ import annotations

from bloomery.report import wording
from bloomery.report.grid import Grid
from bloomery.report.view import LoopView, StageView
from bloomery.report.wording import NOTHING


def kept_words(loop: LoopView) -> str:
    """`2 of 3 cycles`"""
    return f"{loop.kept} of {wording.several(loop.of, 'cycle')}" if loop.of else wording.several(loop.kept, "cycle")


def state_of(loop: LoopView, number: int) -> tuple[str, str]:
    """(kept, undone, running, not run; why)"""
    end = next((one for one in loop.ends if one.number == number), None)
    if end is not None and end.kept:
        return "kept", "every gate passed"
    if end is not None:
        return "undone", f"{end.at} did not pass: {end.why}" if end.at else end.why
    stages = loop.in_cycle(number)
    if any(stage.attempts for stage in stages):
        return "running", ""
    return "not run", next((stage.skipped for stage in stages if stage.skipped), "")


def cycle_grid(loop: LoopView) -> Grid:
    most = max([loop.of, *(one.number for one in loop.ends)], default=0)
    rows: list[tuple[str, ...]] = []
    tones: list[str] = []
    for number in range(1, most + 1):
        state, why = state_of(loop, number)
        found = "\n".join(_judged(stage) for stage in loop.in_cycle(number) if stage.attempts)
        rows.append((str(number), found or NOTHING, state, why or NOTHING))
        tones.append({"kept": "pass", "undone": "fail", "running": "notable"}.get(state, ""))
    return Grid(
        loop.id,
        f"{kept_words(loop)} kept",
        ("cycle", "what its gates found", "outcome", "why"),
        tuple(rows),
        tuple(tones),
        _remarks(loop),
    )


def _judged(stage: StageView) -> str:
    attempt = stage.shown
    if attempt is None or attempt.verdict is None:
        return f"{stage.written_id}: not judged yet"
    conditions = attempt.verdict.conditions
    found = [f"{wording.asked(one)} ({wording.condition_value(one)})" for one in conditions]
    tried = f", attempt {attempt.number}" if attempt.number > 1 else ""
    status = wording.STATUS_WORDS.get(attempt.verdict.status, attempt.verdict.status)
    return f"{stage.written_id}{tried}: {', '.join(found) or 'no gate'}, {status}"


def _remarks(loop: LoopView) -> tuple[str, ...]:
    out: list[str] = []
    if loop.skipped:
        out.append(f"It was skipped: {loop.skipped}.")
    if loop.end is not None and loop.end.why:
        out.append(f"{loop.end.why[0].upper()}{loop.end.why[1:]}.")
    elif not loop.skipped:
        out.append("The loop has not ended.")
    if any(not one.kept for one in loop.ends):
        out.append("What the cycle that was undone had changed is not handed on; the loop holds what it held before.")
    looks = sum(len(stage.looks) for stage in loop.stages)
    if looks > 1:
        out.append(f"The gates of its cycles looked at held-out data {looks} times: it chose which cycles are kept.")
    return tuple(out)
