"""Drawings of training: losses over tokens, the paired difference, learning rate and throughput.

None where there is nothing honest to draw. Every caption says what a band or a bar is.
"""

from __future__ import annotations

import numpy as np

from bloomery.plan.cast import CONTROL
from bloomery.report import curves, svg, wording
from bloomery.report.drawing import Plot, limits, look_of, token_axis
from bloomery.report.view import Attempt

AFTER = 0.06
"""Curves are scaled to what follows this share of the training: the first fall would flatten everything else."""


def loss_curves(attempt: Attempt, name: str) -> Plot | None:
    """Training loss over tokens of everyone who trained, with held-out points and the baselines as levels."""
    drawn = [found for who in attempt.whos() if (found := curves.curve(attempt, who)) is not None]
    if not drawn:
        return None
    metric = curves.held_out_metric(attempt)
    kept: list[np.ndarray] = []
    cut = False
    with svg.canvas(3.1) as (figure, (axes,)):
        for curve in drawn:
            who, look = curve.who, look_of(attempt, curve.who)
            late = curve.tokens >= AFTER * curve.tokens[-1]
            kept.append(curve.high[late])
            kept.append(curve.low[late])
            cut = cut or bool(np.nanmax(curve.high) > np.nanmax(curve.high[late]) + 0.2)
            axes.fill_between(curve.tokens, curve.low, curve.high, color=look.colour, alpha=0.18, linewidth=0)
            axes.plot(curve.tokens, curve.mean, color=look.colour, dashes=look.dashes or (None, None), lw=1.2,
                      label=f"{_named(attempt, who)}, training")  # fmt: skip
            points = curves.held_out(attempt, who, metric) if metric else None
            if points is not None:
                late = points.tokens >= AFTER * curve.tokens[-1]
                kept.append(points.high[late])
                axes.errorbar(
                    points.tokens, points.mean, yerr=[points.mean - points.low, points.high - points.mean],
                    color=look.colour, fmt=look.marker, ms=3.6, lw=0.9,
                    label=f"{_named(attempt, who)}, {metric}" if len(drawn) < 4 else None,
                )  # fmt: skip
        low, high = limits(np.concatenate(kept))
        outside = []
        for label, level, who in _levels(attempt):
            reach = 0.5 * (high - low)
            if not low - reach < level < high + reach:
                outside.append(f"{label} at {wording.fixed(level, 3)}")
                continue
            low, high = min(low, level - 0.06 * (high - low)), max(high, level + 0.08 * (high - low))
            axes.axhline(level, color=look_of(attempt, who).colour, lw=1.0, dashes=(1.2, 1.4))
            axes.annotate(f"{label} {wording.fixed(level, 3)}", (1, level), xycoords=("axes fraction", "data"),
                          xytext=(-2, 2), textcoords="offset points", ha="right", va="bottom", fontsize=7.5,
                          color=look_of(attempt, who).colour)  # fmt: skip
        axes.set_ylim(low, high)
        token_axis(axes)
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


def _named(attempt: Attempt, who: str) -> str:
    text = wording.party(who)
    return f"{text} (candidate)" if who == attempt.candidate and who in attempt.arms else text


def paired_difference(attempt: Attempt, name: str, against: str = CONTROL) -> Plot | None:
    """The candidate minus another party along the training: what the eye cannot take from two nearly equal curves."""
    training, other = curves.difference(attempt, against), wording.party(against)
    metric = curves.held_out_metric(attempt)
    if training is None:
        return None
    late = training.tokens >= AFTER * training.tokens[-1]
    kept = [training.low[late], training.high[late], np.zeros(1)]
    with svg.canvas(3.1) as (figure, (axes,)):
        axes.axhline(0, color=svg.MUTED, lw=0.9)
        axes.fill_between(training.tokens, training.low, training.high, color=svg.CANDIDATE, alpha=0.18, linewidth=0)
        axes.plot(training.tokens, training.mean, color=svg.CANDIDATE, lw=1.2, label="training, same batches")
        ours = curves.held_out(attempt, attempt.candidate, metric) if metric else None
        theirs = curves.held_out(attempt, against, metric) if metric else None
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
        low, high = limits(np.concatenate(kept))
        room = 0.16 * (high - low)  # for the legend above, and for a word on either side of zero
        axes.set_ylim(min(low, -room), max(high, 0) + room)
        for label, place, alignment in ((f"{other} lower", 1.0, "top"), ("candidate lower", 0.0, "bottom")):
            axes.annotate(label, (0, place), xycoords="axes fraction", xytext=(4, -2 if place else 2),
                          textcoords="offset points", va=alignment, fontsize=7.5, color=svg.MUTED)  # fmt: skip
        token_axis(axes)
        axes.set_ylabel(f"candidate \N{MINUS SIGN} {other}, nats per token")
        axes.grid(axis="y")
        axes.legend(loc="upper right")
        caption = f"Candidate minus {other}, paired by seed and step: both read the same batches."
        caption += " Below zero the candidate is lower."
        if len(training.seeds) > 1:
            caption += " Band: range over seeds."
        return Plot(svg.drawn(figure, name, caption), caption)


def diagnostics(attempt: Attempt, name: str) -> Plot | None:
    """Learning rate, gradient norm and throughput over tokens."""
    wanted = {"lr": "learning rate", "gradient_norm": "gradient norm", "tokens_per_second": "tokens per second"}
    found = {key: [c for who in attempt.whos() if (c := curves.curve(attempt, who, key)) is not None] for key in wanted}
    found = {key: lines for key, lines in found.items() if lines}
    if not found:
        return None
    with svg.canvas(1.25 * len(found) + 0.3, len(found)) as (figure, all_axes):
        for axes, (key, lines) in zip(all_axes, found.items(), strict=True):
            for line in lines:
                look = look_of(attempt, line.who)
                axes.fill_between(line.tokens, line.low, line.high, color=look.colour, alpha=0.18, linewidth=0)
                axes.plot(line.tokens, line.mean, color=look.colour, dashes=look.dashes or (None, None), lw=1.0,
                          label=_named(attempt, line.who))  # fmt: skip
            axes.set_title(wanted[key], loc="left")
            axes.set_ylim(bottom=0)
            axes.grid(axis="y")
            axes.locator_params(axis="y", nbins=4)
            token_axis(axes, label=axes is all_axes[-1])
            axes.ticklabel_format(axis="y", style="plain")
        all_axes[0].legend(loc="upper right")
        caption = "Learning rate, gradient norm before clipping and throughput (mean and range over seeds)."
        return Plot(svg.drawn(figure, name, caption), caption)


def _levels(attempt: Attempt) -> list[tuple[str, float, str]]:
    """(name, loss, who) of the baselines, on the gate's own loss."""
    judged = attempt.verdict.conditions if attempt.verdict else ()
    metrics = dict.fromkeys(one.metric for one in judged if one.metric.endswith("/loss"))
    for metric in metrics:
        baselines = [who for who in attempt.rivals if who not in attempt.arms]
        found = [(who, [one.value for one in attempt.final(metric, who).values()]) for who in baselines]
        levels = [(wording.party(who), sum(values) / len(values), who) for who, values in found if values]
        if levels:
            return levels
    return []
