"""Drawings of what was chosen: the arms of a stage on one metric, and a sweep of one number.

None where there is nothing honest to draw: fewer than two arms with a value, a sweep of names or of several numbers.
"""

from __future__ import annotations

import numpy as np

from bloomery.plan.cast import CONTROL
from bloomery.report import svg, wording
from bloomery.report.drawing import Plot, brief, limits, look_of
from bloomery.report.finals import final
from bloomery.report.sweeps import number_of
from bloomery.report.view import Attempt

LOGARITHMIC_FROM = 8.0
"""Values that differ by this factor or more are drawn on a logarithmic axis."""


def arm_dots(attempt: Attempt, metric: str, name: str) -> Plot | None:
    """A dot a party, with its interval; dots of single seeds below. The candidate is the round one."""
    found = {who: one for who in (*attempt.arms, CONTROL) if (one := final(attempt, metric, who)) is not None}
    if sum(who in attempt.arms for who in found) < 2:
        return None
    with svg.canvas(0.34 * len(found) + 0.62) as (figure, (axes,)):
        marks: list[float] = []
        for row, (who, one) in enumerate(found.items()):
            look = look_of(attempt, who)
            values = [measured.value for measured in attempt.final(metric, who).values()]
            marks += [one.low, one.high, *values]
            if one.by == "interval":
                axes.plot([one.low, one.high], [row, row], color=look.colour, lw=1.8, solid_capstyle="butt")
            if len(values) > 1:
                axes.plot(values, [row + 0.26] * len(values), marker="|", ms=5, color=svg.MUTED, lw=0)
            axes.plot([one.mean], [row], marker=look.marker, ms=6.5, color=look.colour, lw=0,
                      markeredgecolor=svg.SURFACE, markeredgewidth=0.8)  # fmt: skip
        axes.set_xlim(*limits(np.array(marks), pad=0.1))
        labels = [brief(wording.party(who)) + (" ◂" if who == attempt.candidate else "") for who in found]
        axes.set_yticks(range(len(found)), labels)
        axes.set_ylim(len(found) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0, labelcolor=svg.INK)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="x")
        unit = wording.unit_of(metric)
        axes.set_xlabel(f"{metric}, {unit}" if unit else metric)
        by = {one.by for one in found.values()}
        caption = f"{metric} of every arm{' and the control' if CONTROL in found else ''}; ◂ is the candidate."
        caption += " Bars: the seeds' 95 % intervals taken together." if "interval" in by else ""
        caption += " Strokes: single seeds." if any(one.seeds > 1 for one in found.values()) else ""
        shown = "; ".join(f"{wording.party(who)} {wording.amount(metric, one.mean)}" for who, one in found.items())
        return Plot(svg.drawn(figure, name, f"{caption} {shown}."), caption)


def sweep_lines(attempt: Attempt, name: str) -> Plot | None:
    """Metric over the swept value, a line a party; the chosen point is ringed."""
    sweeps = [one for one in attempt.sweeps if any(value is not None for value in one.choice.values)]
    paths = {path for sweep in sweeps for point in sweep.trials for path in point}
    if not sweeps or len(paths) != 1:
        return None
    (path,) = paths
    tried = {number_of(point.get(path)) for sweep in sweeps for point in sweep.trials}
    numbers = sorted(value for value in tried if value is not None)
    if None in tried or len(numbers) < 2:
        return None
    with svg.canvas(2.5) as (figure, (axes,)):
        for sweep in sweeps:
            look = look_of(attempt, sweep.who)
            pairs = sorted(
                (number_of(point[path]) or 0.0, value)
                for point, value in zip(sweep.trials, sweep.choice.values, strict=False)
                if value is not None
            )
            axes.plot([one for one, _ in pairs], [value for _, value in pairs], color=look.colour, lw=1.2,
                      dashes=look.dashes or (None, None), marker=look.marker, ms=4.5,
                      label=wording.party(sweep.who))  # fmt: skip
            index = sweep.choice.index
            if index is not None and index < len(sweep.trials):
                chosen, best = number_of(sweep.trials[index][path]), sweep.choice.values[index]
                if chosen is not None and best is not None:
                    axes.plot([chosen], [best], marker="o", ms=11, lw=0, markerfacecolor="none", color=look.colour,
                              markeredgewidth=1.4)  # fmt: skip
        if numbers[0] > 0 and numbers[-1] / numbers[0] >= LOGARITHMIC_FROM:
            axes.set_xscale("log")
        axes.set_xticks(numbers, [f"{value:g}" for value in numbers])
        axes.minorticks_off()
        axes.margins(x=0.08, y=0.15)
        axes.set_xlabel(path)
        metric = sweeps[0].choice.metric
        axes.set_ylabel(metric)
        axes.grid(axis="y")
        axes.legend(loc="best")
        better = sweeps[0].choice.better
        caption = f"{metric} over {path} on the first seed ({better} is better); ringed: what each chose."
        shown = "; ".join(f"{wording.party(one.who)} chose {wording.said(one.chosen)}" for one in sweeps)
        return Plot(svg.drawn(figure, name, f"{caption} {shown}."), caption)
