"""What the grammar can say and the engine does not carry out yet, each with its place. This list only shrinks."""

from __future__ import annotations

from bloomery.plan.look import Look


def check(look: Look) -> None:
    for name, foreign in look.plan.inputs.items():
        for kind in ("hub", "run"):
            if getattr(foreign, kind) is not None:
                look.later(("inputs", name, kind), f"inputs from a {kind} are not yet runnable")
    for name, suite in look.plan.suites.items():
        if suite.through:
            look.later(("suites", name, "through"), "`through` is not yet runnable")
