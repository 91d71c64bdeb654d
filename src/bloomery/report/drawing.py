"""What all drawings share: a plot with its caption, how each party looks, limits, the axis of tokens.

Parties differ in colour, in dash and in marker, so that print and colour-blind readers lose nothing (Okabe and Ito's
palette). The candidate and the control look the same in every drawing of a report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bloomery.plan.cast import CONTROL
from bloomery.report import svg
from bloomery.report.markup import Markup
from bloomery.report.view import Attempt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIVAL_DASHES: tuple[tuple[float, ...], ...] = ((1.2, 1.4), (6, 1.5, 1.2, 1.5), (8, 2))
"""With three colours: nine rivals that can be told apart."""


@dataclass(frozen=True, slots=True)
class Plot:
    svg: Markup
    caption: str


@dataclass(frozen=True, slots=True)
class Look:
    colour: str
    dashes: tuple[float, ...]
    marker: str


CANDIDATE_LOOK, CONTROL_LOOK = Look(svg.CANDIDATE, (), "o"), Look(svg.CONTROL, (4, 1.6), "s")


def look_of(attempt: Attempt, who: str) -> Look:
    if who == attempt.candidate:
        return CANDIDATE_LOOK
    if who == CONTROL:
        return CONTROL_LOOK
    if attempt.arms and who not in attempt.arms:
        return Look(svg.MUTED, RIVAL_DASHES[0], "x")  # a baseline, which is a level: the colours are the arms'
    rivals = [one for one in (attempt.arms or attempt.rivals) if one != attempt.candidate]
    position = rivals.index(who) if who in rivals else 0
    colours = len(svg.SERIES)
    dashes = RIVAL_DASHES[position // colours % len(RIVAL_DASHES)]
    return Look(svg.SERIES[position % colours], dashes, "^v<>"[position % 4])


def limits(values: np.ndarray, pad: float = 0.06) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = (high - low) * pad or max(abs(high), 1.0) * 0.05
    return low - room, high + room


def token_axis(axes: Axes, *, label: bool = True) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.margins(x=0.02)
    if label:
        axes.set_xlabel("tokens")


def tick(value: float) -> str:
    for step, prefix in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= step:
            return f"{value / step:g}{prefix}"
    return f"{value:g}"


def brief(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
