"""Arms, sweeps and controls, stage by stage: who took part, what each chose, and who was judged."""

from __future__ import annotations

from bloomery.report import arms, choice_plots, controls, sweeps
from bloomery.report import markup as html
from bloomery.report.drawing import Plot
from bloomery.report.finals import main_metrics
from bloomery.report.grid import Grid
from bloomery.report.markup import Markup, join, tag
from bloomery.report.view import Attempt, RunView, StageView


def figures(plots: list[Plot | None]) -> Markup | None:
    """None without any."""
    shown = [tag("figure", plot.svg, tag("figcaption", plot.caption)) for plot in plots if plot is not None]
    return tag("div", shown, class_="figures") if shown else None


def table(grid: Grid, classes: str = "") -> Markup:
    """The table, and below it what is to be said of it."""
    rows = [f"row-{tone}" if tone else "" for tone in grid.tones]
    return join(
        html.table(
            grid.caption, grid.header, [list(map(_lines, row)) for row in grid.rows], classes=classes, row_classes=rows
        ),
        tag("ul", [tag("li", remark) for remark in grid.remarks], class_="lines") if grid.remarks else None,
    )


def _lines(cell: str) -> str:
    lines = cell.split("\n")
    return join([tag("div", line) for line in lines]) if len(lines) > 1 else cell


def parties(view: RunView) -> Markup | None:
    found = [(stage.id, _of_stage(view, stage, f"c{place}")) for place, stage in enumerate(view.stages)]
    return join([join(tag("h3", name), content) for name, content in found if content]) or None


def _of_stage(view: RunView, stage: StageView, name: str) -> Markup:
    control = controls.control_words(view, stage, stage.shown)
    parts = [tag("p", tag("strong", "Control. "), control)] if control else []
    if stage.shown is not None:
        parts.append(_choices(view, stage, stage.shown, name))
    for attempt in stage.attempts:
        if attempt is not stage.shown and (inside := _choices(view, stage, attempt, f"{name}e{attempt.number}")):
            title = f"{stage.id}, attempt {attempt.number} of {len(stage.attempts)}"
            parts.append(tag("details", tag("summary", title), inside))
    return join(parts)


def _choices(view: RunView, stage: StageView, attempt: Attempt, name: str) -> Markup:
    """Arms, both drawings side by side, then the sweep point by point."""
    arm_grid, sweep_grid = arms.arm_grid(view, stage, attempt), sweeps.sweep_grid(view, stage, attempt)
    drawn = [choice_plots.sweep_lines(attempt, f"{name}s")] if sweep_grid is not None else []
    if arm_grid is not None:
        metrics = main_metrics(view, attempt)
        dots = [choice_plots.arm_dots(attempt, metric, f"{name}a{place}") for place, metric in enumerate(metrics)]
        drawn = [*dots, *drawn]
    return join(
        table(arm_grid, "wide arms") if arm_grid is not None else None,
        figures(drawn),
        table(sweep_grid, "sweep") if sweep_grid is not None else None,
    )
