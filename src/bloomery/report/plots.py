"""The report's drawings. Each takes values and gives a Plot, or None where there is nothing honest to draw.

Candidate and control differ in colour, in dash and in marker, so that print and colour-blind readers lose nothing
(Okabe and Ito's palette). Every caption says what a band or a bar is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloomery.measure import Tally
from bloomery.report import curves, svg, wording
from bloomery.report.markup import Markup
from bloomery.report.view import Attempt, ConditionVerdict, RunView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AFTER = 0.06
"""Curves are scaled to what follows this share of the training: the first fall would flatten everything else."""
STATUS_COLOURS = {"pass": svg.PASS, "fail": svg.FAIL}
SPAN_HATCH = {"finished": "", "interrupted": "////", "killed": "xxxx", "failed": "xxxx", "running": "...."}


@dataclass(frozen=True, slots=True)
class Plot:
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class _Look:
    colour: str
    dashes: tuple[float, ...]
    marker: str


def _look(who: str, others: Sequence[str] = ()) -> _Look:
    if who == "candidate":
        return _Look(svg.CANDIDATE, (), "o")
    if who == "control":
        return _Look(svg.CONTROL, (4, 1.6), "s")
    position = list(others).index(who) if who in others else 0
    return _Look(svg.SERIES[position % len(svg.SERIES)], (1.2, 1.4), "^v<>"[position % 4])


def loss_curves(attempt: Attempt, name: str) -> Plot | None:
    """Training loss over tokens of everyone who trained, with held-out points and the baselines as levels."""
    drawn = [found for who in attempt.whos() if (found := curves.curve(attempt, who)) is not None]
    if not drawn:
        return None
    others = [who for who in attempt.whos() if who not in ("candidate", "control")]
    metric = curves.held_out_metric(attempt)
    kept: list[np.ndarray] = []
    cut = False
    with svg.canvas(3.1) as (figure, (axes,)):
        for curve in drawn:
            who, look = curve.who, _look(curve.who, others)
            late = curve.tokens >= AFTER * curve.tokens[-1]
            kept.append(curve.high[late])
            kept.append(curve.low[late])
            cut = cut or bool(np.nanmax(curve.high) > np.nanmax(curve.high[late]) + 0.2)
            axes.fill_between(curve.tokens, curve.low, curve.high, color=look.colour, alpha=0.18, linewidth=0)
            axes.plot(curve.tokens, curve.mean, color=look.colour, dashes=look.dashes or (None, None), lw=1.2,
                      label=f"{wording.party(who)}, training")  # fmt: skip
            points = curves.held_out(attempt, who, metric) if metric else None
            if points is not None:
                late = points.tokens >= AFTER * curve.tokens[-1]
                kept.append(points.high[late])
                axes.errorbar(
                    points.tokens, points.mean, yerr=[points.mean - points.low, points.high - points.mean],
                    color=look.colour, fmt=look.marker, ms=3.6, lw=0.9, label=f"{wording.party(who)}, {metric}",
                )  # fmt: skip
        low, high = _limits(np.concatenate(kept))
        outside = []
        for label, level, who in _levels(attempt, others):
            reach = 0.5 * (high - low)
            if not low - reach < level < high + reach:
                outside.append(f"{label} at {wording.fixed(level, 3)}")
                continue
            low, high = min(low, level - 0.06 * (high - low)), max(high, level + 0.08 * (high - low))
            axes.axhline(level, color=_look(who, others).colour, lw=1.0, dashes=(1.2, 1.4))
            axes.annotate(f"{label} {wording.fixed(level, 3)}", (1, level), xycoords=("axes fraction", "data"),
                          xytext=(-2, 2), textcoords="offset points", ha="right", va="bottom", fontsize=7.5,
                          color=_look(who, others).colour)  # fmt: skip
        axes.set_ylim(low, high)
        _token_axis(axes)
        axes.set_ylabel("nats per token")
        axes.grid(axis="y")
        axes.legend(loc="upper right", ncols=1)
        seeds = sorted({cell.seed for cell in attempt.cells if cell.points and cell.seed is not None})
        caption = (
            "Training loss (lines: mean over seeds, band: range over seeds)" if len(seeds) > 1 else "Training loss"
        )
        caption += f", seed{'s' if len(seeds) > 1 else ''} {wording.listed([str(seed) for seed in seeds])}"
        if metric:
            caption += f"; markers: held-out {metric}, bars: the seeds' 95 % intervals over documents, taken together"
        caption += "." + (" The first steep fall lies above the drawing." if cut else "")
        caption += f" Outside the drawing: {wording.listed(outside)}." if outside else ""
        return Plot(svg.drawn(figure, name, f"Loss over tokens. {caption}"), caption)


def paired_difference(attempt: Attempt, name: str) -> Plot | None:
    """Candidate minus control along the training: what the eye cannot take from two nearly equal curves."""
    training = curves.difference(attempt)
    metric = curves.held_out_metric(attempt)
    if training is None:
        return None
    late = training.tokens >= AFTER * training.tokens[-1]
    kept = [training.low[late], training.high[late], np.zeros(1)]
    with svg.canvas(3.1) as (figure, (axes,)):
        axes.axhline(0, color=svg.MUTED, lw=0.9)
        axes.fill_between(training.tokens, training.low, training.high, color=svg.CANDIDATE, alpha=0.18, linewidth=0)
        axes.plot(training.tokens, training.mean, color=svg.CANDIDATE, lw=1.2, label="training, same batches")
        ours = curves.held_out(attempt, "candidate", metric) if metric else None
        theirs = curves.held_out(attempt, "control", metric) if metric else None
        if ours is not None and theirs is not None:
            size = min(len(ours.tokens), len(theirs.tokens))
            shared = [seed for seed in ours.seeds if seed in theirs.seeds]
            gaps = np.array([ours.seeds[seed][:size] - theirs.seeds[seed][:size] for seed in shared])
            if len(gaps):
                for row in gaps:
                    axes.plot(ours.tokens[:size], row, marker="o", ms=2.2, lw=0, color=svg.MUTED)
                known = np.isfinite(gaps).any(0)
                axes.plot(ours.tokens[:size][known], np.nanmean(gaps[:, known], axis=0), marker="D", ms=4, lw=0,
                          color=svg.INK, label=f"{metric}, mean; small dots: seeds")  # fmt: skip
                kept.append(gaps[:, ours.tokens[:size] >= AFTER * training.tokens[-1]].ravel())
        low, high = _limits(np.concatenate(kept))
        room = 0.16 * (high - low)  # for the legend above, and for a word on either side of zero
        axes.set_ylim(min(low, -room), max(high, 0) + room)
        for label, place, alignment in (("control lower", 1.0, "top"), ("candidate lower", 0.0, "bottom")):
            axes.annotate(label, (0, place), xycoords="axes fraction", xytext=(4, -2 if place else 2),
                          textcoords="offset points", va=alignment, fontsize=7.5, color=svg.MUTED)  # fmt: skip
        _token_axis(axes)
        axes.set_ylabel("candidate \N{MINUS SIGN} control, nats per token")
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        caption = "Candidate minus control, paired by seed and step: both read the same batches."
        caption += " Below zero the candidate is lower."
        if len(training.seeds) > 1:
            caption += " Band: range over seeds."
        return Plot(svg.drawn(figure, name, caption), caption)


def strip(one: ConditionVerdict, name: str) -> Plot | None:
    """A condition's value with its interval against the threshold; the side that passes is shaded."""
    limit, value = one.threshold, one.value
    if limit is None or value is None or not np.isfinite(value):
        return None
    equal = None if one.relative_to is None else 0.0 if one.difference else 1.0
    marks = [limit, value, *one.values] + ([one.interval.low, one.interval.high] if one.interval else [])
    if equal is not None and abs(equal - limit) < 3 * (max(marks) - min(marks) + 1e-12):
        marks.append(equal)
    low, high = _limits(np.array(marks, dtype=float), pad=0.12)
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
    """One bar a cell over the hours of the run; hatched where it was interrupted or killed."""
    times = [(span, wording.when(span.start), wording.when(span.end)) for span in view.spans]
    known = [(span, start, end) for span, start, end in times if start is not None and end is not None]
    if not known or len({(span.stage, span.attempt, span.who) for span, _, _ in known}) > 40:
        return None
    first = min(start for _, start, _ in known)
    rows = list(dict.fromkeys((span.stage, span.attempt, span.who) for span, _, _ in known))
    others = [who for who in dict.fromkeys(who for _, _, who in rows) if who not in ("candidate", "control")]
    longest = max((end - first).total_seconds() for _, _, end in known)
    unit, scale = ("seconds", 1) if longest < 180 else ("minutes", 60) if longest < 10800 else ("hours", 3600)
    with svg.canvas(0.26 * len(rows) + 0.55) as (figure, (axes,)):
        for span, start, end in known:
            begin, length = (start - first).total_seconds() / scale, (end - start).total_seconds() / scale
            row = rows.index((span.stage, span.attempt, span.who))
            axes.barh(row, max(length, longest / scale / 400), left=begin, height=0.62, alpha=0.85,
                      color=_look(span.who, others).colour, hatch=SPAN_HATCH.get(span.ended, ""),
                      edgecolor=svg.SURFACE, linewidth=0.8)  # fmt: skip
            if span.seed is not None and length > longest / scale / 30:
                axes.annotate(
                    str(span.seed), (begin + length / 2, row), ha="center", va="center", fontsize=7, color=svg.SURFACE
                )
        several = len({(stage, attempt) for stage, attempt, _ in rows}) > 1
        labels = [f"{_brief(stage)} {attempt} · {_brief(wording.party(who))}" if several else _brief(wording.party(who))
                  for stage, attempt, who in rows]  # fmt: skip
        axes.set_yticks(range(len(rows)), labels)
        axes.tick_params(axis="y", length=0, labelcolor=svg.INK)
        axes.invert_yaxis()
        axes.set_xlabel(f"{unit} since the first cell")
        axes.grid(axis="x")
        ends = {span.ended for span, _, _ in known}
        caption = "What ran when; the number in a bar is the seed."
        if ends - {"finished"}:
            caption += f" Hatched: {wording.listed(sorted(ends - {'finished'}))}."
        return Plot(svg.drawn(figure, name, caption), caption)


def diagnostics(attempt: Attempt, name: str) -> Plot | None:
    """Learning rate, gradient norm and throughput over tokens."""
    wanted = {"lr": "learning rate", "gradient_norm": "gradient norm", "tokens_per_second": "tokens per second"}
    found = {key: [c for who in attempt.whos() if (c := curves.curve(attempt, who, key)) is not None] for key in wanted}
    found = {key: lines for key, lines in found.items() if lines}
    if not found:
        return None
    others = [who for who in attempt.whos() if who not in ("candidate", "control")]
    with svg.canvas(1.25 * len(found) + 0.3, len(found)) as (figure, all_axes):
        for axes, (key, lines) in zip(all_axes, found.items(), strict=True):
            for line in lines:
                look = _look(line.who, others)
                axes.fill_between(line.tokens, line.low, line.high, color=look.colour, alpha=0.18, linewidth=0)
                axes.plot(line.tokens, line.mean, color=look.colour, dashes=look.dashes or (None, None), lw=1.0,
                          label=wording.party(line.who))  # fmt: skip
            axes.set_title(wanted[key], loc="left")
            axes.set_ylim(bottom=0)
            axes.grid(axis="y")
            axes.locator_params(axis="y", nbins=4)
            _token_axis(axes, label=axes is all_axes[-1])
            axes.ticklabel_format(axis="y", style="plain")
        all_axes[0].legend(loc="upper right")
        caption = "Learning rate, gradient norm before clipping and throughput (mean and range over seeds)."
        return Plot(svg.drawn(figure, name, caption), caption)


def _levels(attempt: Attempt, others: Sequence[str]) -> list[tuple[str, float, str]]:
    """(name, loss, who) of the baselines, on the gate's own loss."""
    judged = attempt.verdict.conditions if attempt.verdict else ()
    metrics = dict.fromkeys(one.metric for one in judged if one.metric.endswith("/loss"))
    for metric in metrics:
        found = [(who, [one.value for one in attempt.final(metric, who).values()]) for who in others]
        levels = [(wording.party(who), sum(values) / len(values), who) for who, values in found if values]
        if levels:
            return levels
    return []


def _limits(values: np.ndarray, pad: float = 0.06) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = (high - low) * pad or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def _token_axis(axes: Axes, *, label: bool = True) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.margins(x=0.02)
    if label:
        axes.set_xlabel("tokens")


def _tick(value: float) -> str:
    for step, prefix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= step:
            return f"{value / step:g}{prefix}"
    return f"{value:g}"


def _brief(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
