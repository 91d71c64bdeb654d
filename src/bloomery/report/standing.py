"""Where each stage of a run stands, in a word and in a line."""

from __future__ import annotations

from bloomery.plan import cast
from bloomery.report import looks, summary, wording
from bloomery.report.view import Attempt, RunView, StageView


def state(stage: StageView) -> str:
    """pass, fail, inconclusive, missing, running, skipped, or waiting."""
    if stage.last is None:
        return "skipped" if stage.skipped else "waiting"
    return stage.last.verdict.status if stage.last.verdict is not None else "running"


def line(stage: StageView) -> str:
    """`pass; arm wide, best of 3 by val/loss; 2nd look, after rule plateau`"""
    parts, attempt = [state(stage)], stage.last
    if attempt is None:
        return f"skipped: {stage.skipped}" if stage.skipped else parts[0]
    if attempt.verdict is None:
        parts[0] += f": {at_work(stage, attempt)}"
    elif attempt.arms:
        parts.append(summary.candidate_words(attempt))
    parts += [words] if (words := looks.look_words(stage, attempt)) else []
    if attempt.not_promoted:
        parts.append("its cycle is undone" if stage.cycle is not None else "not promoted")
    if stage.skipped:
        parts.append(f"skipped in the last walk: {stage.skipped}")
    return "; ".join(parts)


def at_work(stage: StageView, attempt: Attempt) -> str:
    """`arm wide, trial 2 of 3, seed 0; 4 of 13 cells done`"""
    cells = (*attempt.cells, *attempt.trials)
    done = sum(cell.state in ("finished", "failed") or _of_another_attempt(cell.source, attempt) for cell in cells)
    running = next((cell for cell in reversed(cells) if cell.state == "running"), None)
    count = f"{done} cells done"
    if running is None:
        return count
    trials = len(cast.trials(stage.spec)) if stage.spec is not None else 0
    of = f" of {trials}" if trials and "~" in running.who else ""
    seed = "" if running.seed is None else f", seed {running.seed}"
    return f"{wording.party(running.who)}{of}{seed}; {count}"


def _of_another_attempt(source: tuple[str, int, str, int | None] | None, attempt: Attempt) -> bool:
    """A trial that won is the cell of its party: it is counted once."""
    return source is not None and not (source[1] == attempt.number and "~" in source[2])


def stages(view: RunView) -> dict[str, str]:
    return {stage.id: state(stage) for stage in view.stages}
