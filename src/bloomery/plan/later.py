"""What the grammar can say and the engine does not carry out yet, each with its place. This list only shrinks."""

from __future__ import annotations

from bloomery.plan.check_stages import parse_reference
from bloomery.plan.look import Look, Placed


def check(look: Look) -> None:
    plan = look.plan
    if plan.fraction is not None and plan.fraction != 1:
        look.later(("fraction",), "`fraction` is not yet runnable")
    for index, claim in enumerate(plan.claims):
        look.later(("claims", index), f"the claim '{claim.id}' is not yet answered")
    for name, foreign in plan.inputs.items():
        for kind in ("hub", "run"):
            if getattr(foreign, kind) is not None:
                look.later(("inputs", name, kind), f"inputs from a {kind} are not yet runnable")
    for placed in look.stages:
        _stage(look, placed)


def _stage(look: Look, placed: Placed) -> None:
    stage, path = placed.spec, placed.path
    for key in ("arms", "candidate", "sweep", "select", "control", "stop_if", "repeat"):
        if getattr(stage, key):
            look.later((*path, key), f"`{key}` is not yet runnable")
    for name, text in stage.needs.items():
        reference = parse_reference(text)
        if reference is not None and reference.arm:
            look.later((*path, "needs", name), "an arm as input (@) is not yet runnable")
