"""Sweeps: what every party tried on the first seed, what it measured and chose, and whether the grid was too small.

A best value at the end of its list is a warning, not a result: the optimum may lie beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bloomery.plan import cast
from bloomery.plan.units import UnitError, parse_quantity
from bloomery.report import wording
from bloomery.report.facts import Facts, Sweep
from bloomery.report.grid import Grid
from bloomery.report.view import Attempt, RunView, StageView
from bloomery.report.wording import NOTHING

CHOSEN = " ✓"


def sweep_grid(view: RunView, stage: StageView, attempt: Attempt) -> Grid | None:
    """Rows: the points that were tried; a column for each party. None where nothing was chosen yet."""
    sweeps = attempt.sweeps
    if not sweeps:
        return None
    points = list({repr(sorted(point.items())): point for sweep in sweeps for point in sweep.trials}.values())
    paths = list(dict.fromkeys(path for point in points for path in point))
    rows = tuple(
        (*(wording.said(point.get(path)) for path in paths), *(_cell(attempt, sweep, point) for sweep in sweeps))
        for point in points
    )
    choice = sweeps[0].choice
    seed = "" if sweeps[0].seed is None else f" {sweeps[0].seed}"
    caption = (
        f"Sweep of {stage.id}, attempt {attempt.number}: {choice.metric} ({choice.better} is better) on the first "
        f"seed{seed}; ✓ is what each party chose for all its seeds"
    )
    header = (*paths, *(wording.party(sweep.who) for sweep in sweeps))
    return Grid(stage.id, caption, header, rows, remarks=tuple(_remarks(view, stage, attempt)))


def _cell(attempt: Attempt, sweep: Sweep, point: Facts) -> str:
    position = next((place for place, one in enumerate(sweep.trials) if one == point), None)
    if position is None:
        return NOTHING
    value = sweep.choice.values[position] if position < len(sweep.choice.values) else None
    if value is None:
        trial = next((cell for cell in attempt.trials if cell.who == f"{sweep.who}~{position}"), None)
        return f"failed: {trial.error}" if trial is not None and trial.error else "no value"
    return wording.amount(sweep.choice.metric, value) + (CHOSEN if position == sweep.choice.index else "")


def edges(sweep: Sweep) -> tuple[str, ...]:
    """The paths whose chosen value is the smallest or largest that was tried; lists of names have no end."""
    if sweep.chosen is None:
        return ()
    out: list[str] = []
    for path, chosen in sweep.chosen.items():
        numbers = [number_of(point.get(path)) for point in sweep.trials]
        found = number_of(chosen)
        known = sorted({value for value in numbers if value is not None})
        if found is None or None in numbers or len(known) < 2 or known[0] < found < known[-1]:
            continue
        out.append(f"{path} = {wording.said(chosen)}, the {'smallest' if found == known[0] else 'largest'} tried")
    return tuple(out)


def number_of(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(parse_quantity(value))
    except (UnitError, ValueError):
        return None


def _remarks(view: RunView, stage: StageView, attempt: Attempt) -> Sequence[str]:
    out: list[str] = []
    at_edge: dict[tuple[str, ...], list[str]] = {}
    for sweep in attempt.sweeps:
        if found := edges(sweep):
            at_edge.setdefault(found, []).append(wording.party(sweep.who))
        if sweep.chosen is None:
            out.append(f"{wording.party(sweep.who)[0].upper()}{wording.party(sweep.who)[1:]} found no value at all.")
    for found, whos in at_edge.items():
        out.append(
            f"Edge of the grid: {wording.listed(whos)} chose {wording.listed(list(found))}. The optimum may lie "
            "beyond: with a wider sweep the result may be better."
        )
    if stage.spec is not None and view.plan is not None and stage.spec.sweep:
        left_out = [who for who in cast.parties(view.plan, stage.spec) if not cast.is_swept(view.plan, stage.spec, who)]
        if left_out:
            names = wording.listed([wording.party(who) for who in left_out])
            out.append(f"Not swept: {names}, whose own settings fix what is swept.")
    if words := trial_cost(view, stage):
        out.append(words)
    return out


def trial_cost(view: RunView, stage: StageView) -> str:
    """What all trials of a stage cost, over all attempts; the winners are part of it."""
    here = {who: amounts for (name, who), amounts in view.spent_by.items() if name == stage.id}
    trials = [amounts for who, amounts in here.items() if "~" in who]
    if not trials:
        return ""
    seconds, everything = (sum(float(one.get("seconds") or 0) for one in some) for some in (trials, here.values()))
    tokens = sum(float(one.get("tokens") or 0) for one in trials)
    share = f", {100 * seconds / everything:.0f} % of the time that this stage took" if everything else ""
    number = f"{wording.several(stage.trials(), 'trial')} in {wording.several(len(stage.attempts), 'attempt')}"
    return (
        f"{number} cost {wording.count(tokens)} tokens and {wording.duration(seconds)}{share}; "
        "all of it is part of what was spent. A trial that won is its party's first seed and was not run twice."
    )
