"""Stages that did not go through: optional ones, with what was handed on instead of their result, and skipped ones."""

from __future__ import annotations

from bloomery.plan.cast import needs_of
from bloomery.report import wording
from bloomery.report.facts import Decision
from bloomery.report.grid import Grid
from bloomery.report.view import Attempt, RunView, StageView
from bloomery.report.wording import NOTHING


def reason(decision: Decision | None) -> str:
    return "" if decision is None else decision.because or decision.reason


def not_promoted_grid(view: RunView) -> Grid | None:
    """Stages of loops are left out: their cycle was undone, which its own table tells."""
    found = [
        (stage, stage.last) for stage in view.stages if stage.last and stage.last.not_promoted and stage.cycle is None
    ]
    rows = tuple((stage.id, reason(last.decision) or NOTHING, handed_on(stage, last)) for stage, last in found)
    caption = "Optional stages whose gate did not pass: their results were left behind"
    header = ("stage", "why", "handed on instead")
    return Grid("Not promoted", caption, header, rows) if rows else None


def handed_on(stage: StageView, attempt: Attempt) -> str:
    """`its input model, from tune`"""
    if stage.spec is None:
        return "its inputs"
    made = {one.output for one in attempt.artifacts}
    needs = needs_of(stage.spec, attempt.candidate).items()
    inputs = [
        f"{name} from {reference}" for name, reference in needs
        if not reference.endswith(".passed") and (not made or name in made)
    ]  # fmt: skip
    return wording.listed(inputs) or "nothing: it has no inputs of the same names"


def skipped_grid(view: RunView) -> Grid | None:
    """Cycles after the end of their loop are left out: the loop's own table tells of them."""
    rows: list[tuple[str, str, str]] = []
    for stage in view.stages:
        if stage.skipped and stage.cycle is None:
            ran = wording.several(len(stage.attempts), "attempt") + " in earlier walks" if stage.attempts else "never"
            rows.append((stage.id, stage.skipped, ran))
    caption, header = "Stages that the walk passed over", ("stage", "why", "ran")
    return Grid("Skipped", caption, header, tuple(rows)) if rows else None
