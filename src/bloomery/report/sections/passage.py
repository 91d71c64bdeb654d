"""The cycles of loops, optional stages that were not promoted, and stages that the walk passed over."""

from __future__ import annotations

from bloomery.report import cycles, passage
from bloomery.report.markup import Markup, join, tag
from bloomery.report.sections.choices import table
from bloomery.report.view import RunView


def passed_over(view: RunView) -> Markup | None:
    parts: list[Markup] = []
    for loop in view.loops:
        parts.append(join(tag("h3", f"Loop {loop.id}"), table(cycles.cycle_grid(loop))))
    for grid in (passage.not_promoted_grid(view), passage.skipped_grid(view)):
        if grid is not None:
            parts.append(join(tag("h3", grid.title), table(grid)))
    return join(parts) or None
