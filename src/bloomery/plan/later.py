"""What the grammar can say and the engine does not carry out yet, each with its place. This list only shrinks."""

from __future__ import annotations

from bloomery.plan.look import Look


def check(look: Look) -> None:
    for name, suite in look.plan.suites.items():
        if suite.through:
            look.later(("suites", name, "through"), "`through` is not yet runnable")
