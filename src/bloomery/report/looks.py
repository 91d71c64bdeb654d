"""How often held-out data was looked at for a gate. A pass at the third look is worth less than one at the first.

Counted are verdicts on anything that was measured beyond training, sizes and costs: after a retry, after a patch of an
earlier stage, after an amendment. The number stands beside the verdict, with the rules that came between.
"""

from __future__ import annotations

from bloomery.report import wording
from bloomery.report.facts import Look
from bloomery.report.view import Attempt, RunView, StageView


def look_of(stage: StageView, attempt: Attempt) -> tuple[int, Look] | None:
    """(number, look): the latest at which this attempt was judged; None where nothing was looked at."""
    numbered = [(number, look) for number, look in enumerate(stage.looks, start=1) if look.attempt == attempt.number]
    return numbered[-1] if numbered else None


def look_words(stage: StageView, attempt: Attempt) -> str:
    """`2nd look, after rule plateau`; empty for a first look that was the only one."""
    found = look_of(stage, attempt)
    if found is None or len(stage.looks) == 1:
        return ""
    number, look = found
    after = f", after {wording.listed(list(look.after))}" if look.after else ""
    return f"{wording.ordinal(number)} look{after}"


def looks_words(view: RunView) -> str:
    """A sentence for the summary; empty where every gate was judged once."""
    again = [stage for stage in view.stages if len(stage.looks) > 1]
    if not again:
        return ""
    told = [f"{stage.id} {wording.several(len(stage.looks), 'time')}" for stage in again]
    return (
        f"Held-out data was looked at more than once: for the gate of {wording.listed(told)}. Every further look makes "
        "a pass by chance more likely, and no interval here is corrected for it."
    )
