"""Drawings of a verdict, of sizes and of the hours of a run. None where there is nothing honest to draw.

Every caption says what a bar is.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bloomery.measure import Tally
from bloomery.report import svg, wording
from bloomery.report.drawing import CANDIDATE_LOOK, Look, Plot, brief, limits, look_of
from bloomery.report.facts import ConditionVerdict, Span
from bloomery.report.view import RunView

STATUS_COLOURS = {"pass": svg.PASS, "fail": svg.FAIL}
SPAN_HATCH = {"finished": "", "interrupted": "////", "killed": "xxxx", "failed": "xxxx", "running": "...."}


def strip(one: ConditionVerdict, name: str) -> Plot | None:
    """A condition's value with its interval against the threshold; the side that passes is shaded."""
    limit, value = one.threshold, one.value
    if limit is None or value is None or not np.isfinite(value):
        return None
    equal = None if one.relative_to is None else 0.0 if one.difference else 1.0
    marks = [limit, value, *one.values] + ([one.interval.low, one.interval.high] if one.interval else [])
    if equal is not None and abs(equal - limit) < 3 * (max(marks) - min(marks) + 1e-12):
        marks.append(equal)
    low, high = limits(np.array(marks, dtype=float), pad=0.12)
    colour = STATUS_COLOURS.get(one.status, svg.UNSURE)
    operator = str(one.condition.get("op", ""))
    with svg.canvas(0.95) as (figure, (axes,)):
        axes.set_xlim(low, high)
        axes.set_ylim(-1, 1)
        if operator.startswith(("<", ">")):
            sides = (low, limit) if operator.startswith("<") else (limit, high)
            axes.axvspan(*sides, color=svg.PASS, alpha=0.12, linewidth=0)
        axes.axvline(limit, color=svg.INK, lw=1.2)
        if equal is not None and equal != limit:
            axes.axvline(equal, color=svg.MUTED, lw=0.8, dashes=(2, 2))
        if one.interval is not None:
            axes.plot([one.interval.low, one.interval.high], [0, 0], color=colour, lw=2.4, solid_capstyle="butt")
            for end in (one.interval.low, one.interval.high):
                axes.plot([end, end], [-0.28, 0.28], color=colour, lw=1.4)
        for seed_value in one.values if len(one.values) > 1 else ():
            axes.plot([seed_value], [-0.62], marker="^", ms=3.6, color=svg.MUTED, lw=0)
        axes.plot([value], [0], marker="D", ms=6.5, color=colour, lw=0, markeredgecolor=svg.SURFACE, markeredgewidth=1)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=6)
        what = "" if equal is None else "difference" if one.difference else "ratio"
        unit = wording.unit_of(one.metric) if equal is None or one.difference else ""
        axes.set_xlabel(", ".join(part for part in (what, unit) if part) or one.metric, labelpad=1)
        caption = f"Diamond: value{', bar: 95 % interval' if one.interval else ''}"
        caption += f"{', triangles: seeds' if len(one.values) > 1 else ''}; line: threshold; shaded: passes"
        caption += "; dashed: equality." if equal is not None and equal != limit else "."
        found = f"{wording.condition_value(one)}, interval {wording.interval(one.interval)}"
        shown = f"{wording.asked(one)}: {found}. {caption}"
        return Plot(svg.drawn(figure, name, shown), caption)


def stored_bars(parties: Mapping[str, Tally], quantity: str, name: str) -> Plot:
    """Stacked by group: parameters (`stored`) or `bytes`; the candidate's dense equivalent as an outlined claim."""
    groups = list(dict.fromkeys(group for tally in parties.values() for group in tally.groups))
    shades = (svg.MUTED, svg.OTHER_A, svg.OTHER_B, svg.OTHER_C, svg.LINE)  # no party's colour: these are groups
    written = wording.size if quantity == "bytes" else wording.count
    rows = [(wording.party(who), tally) for who, tally in parties.items()]
    claims = [tally.dense_equivalent for tally in parties.values() if tally.dense_equivalent]
    claim = claims[0] if claims and quantity == "stored" else None
    most = max([tally.total(quantity) for tally in parties.values()] + ([claim] if claim else []))
    height = 0.42 * (len(rows) + (claim is not None)) + 0.62
    with svg.canvas(height) as (figure, (axes,)):
        for row, (_, tally) in enumerate(rows):
            left = 0.0
            for position, group in enumerate(groups):
                width = float(getattr(tally.groups[group], quantity)) if group in tally.groups else 0.0
                label = group.replace("_", " ") if row == 0 else f"_{group}"
                axes.barh(row, width, left=left, height=0.62, color=shades[position % len(shades)], alpha=0.85,
                          edgecolor=svg.SURFACE, linewidth=0.8, label=label)  # fmt: skip
                left += width
            axes.annotate(
                written(tally.total(quantity)), (left, row), xytext=(4, 0), textcoords="offset points", va="center"
            )
        if claim is not None:
            axes.barh(len(rows), claim, height=0.62, facecolor="none", edgecolor=svg.MUTED, hatch="///", linewidth=0.9)
            axes.annotate(written(claim), (claim, len(rows)), xytext=(4, 0), textcoords="offset points", va="center")
        names = [label for label, _ in rows] + (["dense equivalent\n(a claim)"] if claim is not None else [])
        axes.set_yticks(range(len(names)), names)
        axes.tick_params(axis="y", length=0, labelcolor=svg.INK)
        axes.invert_yaxis()
        axes.set_xlim(0, most * 1.17)
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        figure.legend(loc="outside lower left", ncols=min(4, len(groups)), handlelength=1.0, columnspacing=1.2)
        what = "Bytes as deployed" if quantity == "bytes" else "Stored parameters"
        shown = "; ".join(f"{label} {written(tally.total(quantity))}" for label, tally in rows)
        return Plot(svg.drawn(figure, name, f"{what} by group: {shown}."), f"{what}, by group.")


def what_ran_when(view: RunView, name: str) -> Plot | None:
    """One bar a cell over the hours of the run, trials of a sweep among their party's; hatched where it was cut off."""
    times = [(span, wording.when(span.start), wording.when(span.end)) for span in view.spans]
    known = [(span, start, end) for span, start, end in times if start is not None and end is not None]
    rows = list(dict.fromkeys(_row(span) for span, _, _ in known))
    if not known or len(rows) > 40:
        return None
    first = min(start for _, start, _ in known)
    longest = max((end - first).total_seconds() for _, _, end in known)
    unit, scale = ("seconds", 1) if longest < 180 else ("minutes", 60) if longest < 10800 else ("hours", 3600)
    with svg.canvas(0.26 * len(rows) + 0.55) as (figure, (axes,)):
        for span, start, end in known:
            begin, length = (start - first).total_seconds() / scale, (end - start).total_seconds() / scale
            row, trial = rows.index(_row(span)), "~" in span.who
            axes.barh(row, max(length, longest / scale / 400), left=begin, height=0.62, alpha=0.4 if trial else 0.85,
                      color=_colour(view, span), hatch=SPAN_HATCH.get(span.ended, ""),
                      edgecolor=svg.SURFACE, linewidth=0.8 if length > longest / scale / 100 else 0)  # fmt: skip
            if span.seed is not None and length > longest / scale / 30 and not trial:
                axes.annotate(
                    str(span.seed), (begin + length / 2, row), ha="center", va="center", fontsize=7, color=svg.SURFACE
                )
        several = len({(stage, attempt) for stage, attempt, _ in rows}) > 1
        labels = [f"{brief(stage)} {attempt} · {brief(wording.party(who))}" if several else brief(wording.party(who))
                  for stage, attempt, who in rows]  # fmt: skip
        axes.set_yticks(range(len(rows)), labels)
        axes.tick_params(axis="y", length=0, labelcolor=svg.INK)
        axes.invert_yaxis()
        axes.set_xlabel(f"{unit} since the first cell")
        axes.grid(axis="x")
        ends = {span.ended for span, _, _ in known}
        caption = "What ran when; the number in a bar is the seed."
        if any("~" in span.who for span, _, _ in known):
            caption += " Pale: trials of the party's sweep."
        if ends - {"finished"}:
            caption += f" Hatched: {wording.listed(sorted(ends - {'finished'}))}."
        return Plot(svg.drawn(figure, name, caption), caption)


def _row(span: Span) -> tuple[str, int, str]:
    return span.stage, span.attempt, span.who.partition("~")[0]


def _colour(view: RunView, span: Span) -> str:
    stage = next((stage for stage in view.stages if stage.id == span.stage), None)
    attempt = next((one for one in stage.attempts if one.number == span.attempt), None) if stage is not None else None
    look: Look = look_of(attempt, span.who.partition("~")[0]) if attempt is not None else CANDIDATE_LOOK
    return look.colour
