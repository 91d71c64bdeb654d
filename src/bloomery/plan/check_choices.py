"""Checks of what a stage chooses by measurement: arms, the candidate, sweeps and what they are selected by.

A choice is made on development data that the stage itself looks at, and judged once on what nothing was chosen by: a
suite's metric selects nothing, and no suite judges the part that a choice was made on. Trials differ in what is swept
and in nothing else: never in their tokens or their data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from bloomery.errors import BloomeryError, PlanError, nearest
from bloomery.plan import cast, metrics
from bloomery.plan.catalogue import Looking
from bloomery.plan.check_data import line_of, whole_name
from bloomery.plan.check_patches import NOT_THE_CONTROLS
from bloomery.plan.look import Look, Placed, asked, claimed
from bloomery.plan.patch import covers, patched
from bloomery.plan.problems import closest
from bloomery.plan.yaml_text import KeyPath

_TAKEN = (cast.BEST, cast.CANDIDATE, cast.CONTROL)
"""What an arm cannot be called: it would mean something else in `candidate`, `of` and `STAGE@ARM`."""


def check(look: Look) -> None:
    for placed in look.stages:
        _candidate(look, placed)
        _names(look, placed)
        _same(look, placed)
        _select(look, placed)
        for key in placed.spec.sweep:
            _swept(look, placed, key)
        _trials(look, placed)


# Arms


def _candidate(look: Look, placed: Placed) -> None:
    stage, path = placed.spec, (*placed.path, "candidate")
    if stage.candidate is None or stage.candidate in stage.arms:
        return
    if stage.candidate == cast.BEST and stage.arms:
        if stage.select is None:
            look.problem(path, "`best` of what", "select: {lowest: METRIC}")
        return
    if not stage.arms:
        look.problem(path, f"no arm '{stage.candidate}': the stage has none", "`arms`, or no `candidate`")
        return
    known = [*stage.arms, cast.BEST]
    look.problem(path, f"no arm '{stage.candidate}'", "an arm of this stage, or best", nearest(stage.candidate, known))


def _names(look: Look, placed: Placed) -> None:
    for name in placed.spec.arms:
        if name in _TAKEN:
            look.problem((*placed.path, "arms", name), f"an arm called '{name}', a word of the grammar", "another name")


def _same(look: Look, placed: Placed) -> None:
    """Warn of two arms that are the same run."""
    seen: list[tuple[str, object]] = []
    for name, arm in placed.spec.arms.items():
        try:
            config = patched(placed.spec.config, arm.set)
        except PlanError:
            continue  # said where patches are tried
        typed = _typed(look, placed, config)
        run = (typed if typed is not None else config, cast.needs_of(placed.spec, f"{cast.ARM}{name}"))
        same = next((other for other, known in seen if known == run), None)
        if same is not None:
            what = f"the arm '{name}' is the same run as '{same}'"
            look.warn((*placed.path, "arms", name), what, f"set something that '{same}' does not")
        seen.append((name, run))


# What is selected by


def _select(look: Look, placed: Placed) -> None:
    stage, path = placed.spec, (*placed.path, "select")
    if stage.select is None:
        if stage.sweep:
            look.problem((*placed.path, "sweep"), "a sweep that nothing selects from", "select: {lowest: METRIC}")
        return
    if not stage.sweep and not (stage.candidate == cast.BEST and stage.arms):
        look.problem(path, "`select` with nothing to select from", "`sweep`, or `candidate: best` with `arms`")
    given = [key for key in ("lowest", "highest") if getattr(stage.select, key) is not None]
    if len(given) != 1:
        found = "neither `lowest` nor `highest`" if not given else "both `lowest` and `highest`"
        look.problem(path, found, "exactly one of them")
        return
    metric: str = getattr(stage.select, given[0])
    if _selectable(look, placed, metric, (*path, given[0])):
        _unseen(look, placed, metric, (*path, given[0]))


def _selectable(look: Look, placed: Placed, metric: str, path: KeyPath) -> bool:
    """Whether the metric is one that the stage's own kind measures of each trial."""
    expected = "a metric that the stage's own kind measures, such as val/loss"
    if not metrics.well_formed(metric) or "*" in metric:
        what = "stands for several metrics" if metrics.well_formed(metric) else "is no metric name"
        look.problem(path, f"'{metric}' {what}", expected)
        return False
    if metrics.source(metric) in look.plan.suites:
        what = f"{metric} is a suite's metric: what is judged by it must not be chosen by it"
        look.problem(path, what, expected, "chosen on the development metric, test scored once")
        return False
    config = look.config.get(placed.id)
    if config is None or placed.spec.kind is None:
        return False
    own = look.catalogue.kinds()[placed.spec.kind].emits(config)
    to_reference = metric.endswith("/tokens_to_reference") and metric not in own
    if to_reference or metrics.find(metric, own) is None:
        what = f"{metric} has no reference here" if to_reference else f"'{placed.spec.kind}' does not measure {metric}"
        look.problem(path, what, f"one of: {', '.join(sorted(own)) or 'nothing'}", closest(metric, own))
        return False
    return True


def _unseen(look: Look, placed: Placed, metric: str, path: KeyPath) -> None:
    """What is chosen on a part of the data must not be judged on the same part, here or where it is built on."""
    config, kind = look.config[placed.id], look.catalogue.kinds()[placed.spec.kind or ""]
    if not isinstance(kind, Looking):
        return
    seen = {whole_name(part) for part in kind.looks_at(config)}
    for name in dict.fromkeys(_judging(look, placed)):
        data = look.plan.suites[name].data
        if data is None or whole_name(data) not in seen:
            continue
        part = whole_name(data)
        others = [one for one in look.splits.get(part.partition(":")[0]) or () if one != part.partition(":")[2]]
        hint = f"{part.partition(':')[0]} also has: {', '.join(others)}" if others else ""
        what = f"{metric} is looked at on {part}, which the suite '{name}' judges on"
        look.problem(path, what, "a choice made on a part that no suite judges on", hint)


def _judging(look: Look, placed: Placed) -> Iterator[str]:
    """The suites that conditions ask about a stage or one that is made from it."""
    for other in look.stages:
        if not any(one is placed for one in line_of(look, other)):
            continue
        conditions = [found.condition for found in asked(other)]
        for found in claimed(look.plan):
            reference = cast.claimed_stage(found.condition)
            conditions += [found.condition] if reference is not None and reference.stage == other.id else []
        yield from (one for one in map(metrics.source, (c.metric for c in conditions)) if one in look.plan.suites)


# What is swept


def _swept(look: Look, placed: Placed, key: str) -> None:
    stage, path = placed.spec, (*placed.path, "sweep", key)
    values = stage.sweep[key]
    if not values:
        look.problem(path, "no values", "a list of at least two")
    elif len(values) == 1:
        look.warn(path, f"one value of {key}: there is nothing to choose", "it under `config`, or a second value")
    for index, value in enumerate(values):
        if value in values[:index]:
            look.problem((*path, index), f"the value {value} a second time", "every value once")
    if key.split(".")[0] in NOT_THE_CONTROLS:
        what = f"a sweep over {key}: its trials would not read the same"
        look.problem(path, what, "a path that leaves tokens, data, batch and context alone", "name arms instead")
    _hidden(look, placed, key, path)


def _hidden(look: Look, placed: Placed, key: str, path: KeyPath) -> None:
    """What an arm or a control sets itself is stronger than what is swept."""
    stage = placed.spec
    hiding = [name for name, arm in stage.arms.items() if any(covers(one, key) for one in arm.set)]
    if stage.arms and len(hiding) == len(stage.arms):
        what = f"every arm of '{placed.id}' sets {key} itself, so nothing is swept"
        look.problem(path, what, "a path that not every arm sets")
    own, place = stage.control, (*placed.path, "control")
    if own is None:
        own, place = (look.plan.control if placed.id in look.controlled else None), ("control",)
    setting = next((one for one in own.set if covers(one, key)), None) if own is not None else None
    if setting is not None:
        what = f"the control of '{placed.id}' keeps this, and finds no value of its own for the swept {key}"
        look.warn((*place, "set", setting), what, "leave it to the sweep, for equal effort")


def _trials(look: Look, placed: Placed) -> None:
    """Every value must be possible, alone and, for every arm, together with what the arm sets."""
    stage = placed.spec
    if placed.id not in look.config or stage.kind is None:
        return
    wrong = False
    for key, values in stage.sweep.items():
        told: set[str] = set()
        for index, value in enumerate(values):
            found = _wrong(look, placed, {key: value})
            if found is not None and found.found not in told:
                told.add(found.found)
                at: KeyPath = (*placed.path, "sweep", key)
                at = at if found.found.startswith("unknown key") else (*at, index)
                look.problem(at, found.found, found.expected, found.hint)
            wrong = wrong or found is not None
    if wrong:
        return
    for point in cast.trials(stage)[:_MOST_TRIALS]:
        for who in cast.arms(stage):
            if _together(look, placed, point, who):
                return


_MOST_TRIALS = 200
"""Points of a sweep that are tried together with each arm; more cannot be run either."""


def _together(look: Look, placed: Placed, point: Mapping[str, Any], who: str) -> bool:
    """Say what is wrong with one point for one party. What is wrong without the sweep too is said elsewhere."""
    own = cast.set_by(placed.spec, who)
    error = _wrong(look, placed, {**point, **own})
    if error is None or (own and _wrong(look, placed, own) is not None):
        return False
    shown = ", ".join(f"{key}: {value}" for key, value in point.items())
    whose = "" if who == cast.CANDIDATE else f" of {who}"
    look.problem((*placed.path, "sweep"), f"{{{shown}}}{whose}: {error.found}", error.expected, error.hint)
    return True


def _wrong(look: Look, placed: Placed, patch: Mapping[str, Any]) -> BloomeryError | None:
    """The first thing that is wrong with a stage's settings under a patch."""
    try:
        config = patched(placed.spec.config, patch)
    except PlanError as error:
        return error
    _, errors = look.tried(look.catalogue.kinds()[placed.spec.kind or ""].config_model(), config)
    return errors[0] if errors else None


def _typed(look: Look, placed: Placed, config: Mapping[str, Any]) -> BaseModel | None:
    if placed.id not in look.config or placed.spec.kind is None:
        return None
    return look.tried(look.catalogue.kinds()[placed.spec.kind].config_model(), config)[0]
