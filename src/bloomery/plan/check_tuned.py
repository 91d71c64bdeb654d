"""Checks of what is chosen on a part of its own: a baseline's order, and the weights of caches.

Such a part exists, nothing is fitted on it, and no suite judges it. What says `same` has something to be the same as.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from bloomery.errors import PlanError
from bloomery.plan.catalogue import Following, Tuning
from bloomery.plan.check_data import another_split, fits_on, part_exists, settings_of, whole_name
from bloomery.plan.look import Look
from bloomery.plan.yaml_text import KeyPath


def check(look: Look) -> None:
    kinds, suites = look.catalogue.suites(), dict[str, BaseModel]()
    for name, suite in look.plan.suites.items():
        if suite.kind in kinds:
            settings = settings_of(look, "suites", name, ("kind", "through"))
            config = look.tried(kinds[suite.kind].config_model(), settings)[0]
            suites |= {name: config} if config is not None else {}
    for name, config in suites.items():
        _suite(look, name, config)
    for name, baseline in look.plan.baselines.items():
        path: KeyPath = ("baselines", name)
        _tuned_on(look, (*path, "tune_on"), f"the baseline '{name}'", look.loaded.raw["baselines"][name].get("tune_on"))
        model = look.catalogue.baselines().get(baseline.kind)
        if model is None or len(suites) < len(look.plan.suites):
            continue
        rival = look.tried(model, settings_of(look, "baselines", name, ("kind",)))[0]
        if isinstance(rival, Following):
            _answer(look, path, lambda rival=rival: rival.followed(list(suites.values()), look.splits, None))


def _suite(look: Look, name: str, config: BaseModel) -> None:
    """The part that a suite finds weights on, said or not; of a set that is not offered nothing is known."""
    suite, path = look.plan.suites[name], ("suites", name)
    kind, place = look.catalogue.suites()[suite.kind], (*path, "tune_on")
    if isinstance(kind, Tuning) and look.splits.get((suite.data or "").partition(":")[0]) is not None:
        part = _answer(look, path, lambda: kind.tunes_on(config, look.splits))
        _tuned_on(look, place if place in look.loaded.lines else path, f"the suite '{name}'", part)


def _tuned_on(look: Look, path: KeyPath, who: str, part: object) -> None:
    if not isinstance(part, str):
        return
    part_exists(look, path, part)
    for suite, spec in look.plan.suites.items():
        if whole_name(part) in map(whole_name, spec.judged.values()):
            what = f"{who} is tuned on {whole_name(part)}, which the suite '{suite}' judges"
            look.problem(path, what, "a part that nothing judges", another_split(look, whole_name(part)))
    fitted = {one: stage.id for stage in look.stages for one in fits_on(look, stage)}
    if (learner := fitted.get(whole_name(part))) is not None:
        what = f"{who} is tuned on {whole_name(part)}, which stage '{learner}' learns from"
        look.problem(path, what, "a part that no stage learns from", another_split(look, whole_name(part)))


def _answer(look: Look, path: KeyPath, ask: Callable[[], Any]) -> Any:
    """A PlanError, whose place is a key below `path`, is a problem of the plan."""
    try:
        return ask()
    except PlanError as error:
        place: KeyPath = (*path, error.where)
        look.problem(place if place in look.loaded.lines else path, error.found, error.expected, error.hint)
        return None
