"""What stands as control in each stage: the stage itself with some changes, or the solved twin; and who asks for it."""

from __future__ import annotations

from bloomery.plan import cast
from bloomery.plan.cast import CONTROL
from bloomery.report import wording
from bloomery.report.arms import different
from bloomery.report.view import Attempt, RunView, StageView

MATCHED = {"stored": "stored parameters", "active": "active parameters", "flops": "FLOPs per token", "bytes": "bytes"}


def control_words(view: RunView, stage: StageView, attempt: Attempt | None) -> str:
    """A sentence or two; empty for a stage that has no control."""
    spec, plan = stage.spec, view.plan
    why = cast.why_control(plan, spec) if plan is not None and spec is not None else None
    ran = attempt is not None and bool(attempt.cells_of(CONTROL))
    if why is None and not ran:
        return ""
    asked = f" It runs because {_because(why)}." if why is not None else ""
    if spec is not None and spec.control is not None:
        changes = different(stage, attempt or Attempt(0), CONTROL) or "nothing"
        return f"Its own control: this same stage with {changes}; tokens and data are the candidate's.{asked}"
    return f"{_twin(view, attempt)}{asked}"


def _twin(view: RunView, attempt: Attempt | None) -> str:
    twin = attempt.twin if attempt is not None else None
    control = view.plan.control if view.plan is not None else None
    match = twin.match if twin is not None else control.match if control is not None else ""
    text = "The dense twin" + (f", solved for equal {MATCHED[match]}" if match in MATCHED else "")
    if twin is not None and twin.off_by is not None:
        text += f" ({wording.percent(twin.off_by, 2)} off)"
    shape = wording.said({key: value for key, value in twin.patch.items() if value is not None}) if twin else ""
    text += f", with {shape}" if twin is not None and twin.patch else ""
    if control is not None and control.set:
        text += f"; it has {wording.said(dict(control.set))} of its own"
    return f"{text}. Same tokens."


def _because(why: str) -> str:
    kind, _, name = why.partition(" ")
    return {
        "gate": "the gate names it",
        "stop_if": "stop_if names it",
        "rule": f"rule {name} names it",
        "claim": f"claim {name} names it",
    }.get(kind, why)
