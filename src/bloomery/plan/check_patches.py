"""Checks of patches: rules and the control's `set` change real keys to possible values, and nothing hides them.

A patch is tried: applied to the plan, and the settings of the stage that it reaches are validated by its kind.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from bloomery.errors import BloomeryError, PlanError
from bloomery.plan.cast import ARM, fixed_candidate
from bloomery.plan.check_data import missing_split
from bloomery.plan.check_stages import is_seed
from bloomery.plan.look import Look, Placed
from bloomery.plan.patch import apply_patch, covers, locate_stage, patched, patched_stage
from bloomery.plan.schema import Rule
from bloomery.plan.yaml_text import KeyPath

_SAME_FOR_BOTH = ("tokens", "data", "model", "batch", "context", "packing")
"""Settings that the control shares by design, or that the twin is solved for again."""

NOT_THE_CONTROLS = ("tokens", "data", "batch", "context", "packing")
"""What makes two models read the same tokens in the same rows."""


def check(look: Look) -> None:
    for placed in look.stages:
        _rules(look, placed)
        _variants(look, placed)
    _control(look)


def _rules(look: Look, placed: Placed) -> None:
    names: set[str] = set()
    ended_by = ""
    for index, rule in enumerate(placed.spec.on_fail):
        path: KeyPath = (*placed.path, "on_fail", index)
        if rule.name in names:
            look.problem((*path, "name"), f"a second rule '{rule.name}'", "a name of its own")
        names.add(rule.name)
        if ended_by:
            look.warn(path, f"'{rule.name}' is never reached: '{ended_by}' always applies and ends the attempts")
        if rule.then is not None and not rule.when and len(rule.verdict) == 3:
            ended_by = rule.name
        _shape(look, rule, path)
        if rule.set:
            _prescription(look, placed, rule, path)


def _shape(look: Look, rule: Rule, path: KeyPath) -> None:
    if rule.then is None and not rule.set:
        look.problem(path, f"the rule '{rule.name}' does nothing", "set: {path: value}, or then: stop or go_on")
    if rule.then is not None and rule.set:
        look.problem((*path, "then"), "both `set` and `then`", "a retry (`set`), or an end (`then`)")
    if rule.then is not None and rule.from_ == "checkpoint":
        look.problem((*path, "from"), "`from` without a retry", "it only with `set`")
    if rule.max_attempts > 1 and rule.from_ != "checkpoint":
        found = f"max_attempts: {rule.max_attempts} from the start"
        look.problem(
            (*path, "max_attempts"), found, "from: checkpoint", "the same patch from the start gives the same result"
        )


def _prescription(look: Look, placed: Placed, rule: Rule, path: KeyPath) -> None:
    reached: list[int] = []
    before, whole = len(look.problems), _whole(look, placed, rule)
    for key, value in rule.set.items():
        at: KeyPath = (*path, "set", key)
        try:
            owner, what, below = patched_stage(placed.id, key)
            changed = apply_patch(look.loaded.raw, placed.id, {key: value})
        except PlanError as error:
            look.problem(at, error.found, error.expected, error.hint)
            continue
        target = look.stage(owner)
        assert target is not None
        reached.append(look.stages.index(target))
        if what == "seeds" or whole is None or _is_wrong(look, target, _config_of(whole, target)):
            _possible(look, target, changed, at, what)
        if what == "config":
            _hidden(look, target, below, at)
            if target.id in look.controlled and not _control_has_its_own(look, target, below):
                where = f"the control of '{target.id}'" if target is not placed else "the control"
                hint = f"give the control its own value: set: {{{below}: ...}}"
                look.warn(at, f"'{rule.name}' changes {below} of {where} too", hint)
    if whole is not None and len(look.problems) == before:
        for target in (look.stages[index] for index in dict.fromkeys(reached)):
            _try_config(look, target, _config_of(whole, target), (*path, "set"))
    if reached and all(index > look.stages.index(placed) for index in reached):
        look.warn(path, f"'{rule.name}' changes only stages that come after '{placed.id}': it cannot mend it")
    if rule.from_ == "checkpoint":
        for target in dict.fromkeys(reached):
            _goes_on(look, placed, look.stages[target], rule, path)
    if rule.from_ == "start" and reached:
        _changes_nothing(look, placed, rule, path)


def _goes_on(look: Look, placed: Placed, target: Placed, rule: Rule, path: KeyPath) -> None:
    """A retry from the checkpoint keeps what the state is made for: its model's shape, its optimiser."""
    before, kind = look.config.get(target.id), look.catalogue.kinds().get(target.spec.kind or "")
    if before is None or kind is None:
        return
    whole = _whole(look, placed, rule)
    after = look.tried(kind.config_model(), _config_of(whole, target))[0] if whole is not None else None
    if after is not None and (why := kind.misfit(before, after)):
        what = f"'{rule.name}' goes on from the state of '{target.id}' with {why}"
        hint = "from: start, to train the other one anew"
        look.problem((*path, "from"), what, "a patch that leaves the state's shape alone", hint)


def _whole(look: Look, placed: Placed, rule: Rule) -> Mapping[str, Any] | None:
    """The plan under all that a rule sets, which belongs together; None where a part of it has no place."""
    try:
        return apply_patch(look.loaded.raw, placed.id, rule.set)
    except PlanError:
        return None


def _config_of(raw: Mapping[str, Any], target: Placed) -> Mapping[str, Any]:
    found = locate_stage(raw, target.id)
    assert found is not None
    return found[1].get("config") or {}


def _is_wrong(look: Look, target: Placed, config: Mapping[str, Any]) -> bool:
    if target.id not in look.config or target.spec.kind is None:
        return False
    tried, errors = look.tried(look.catalogue.kinds()[target.spec.kind].config_model(), config)
    missing = missing_split(look, target, tried) if tried is not None else None
    return bool(errors) or missing not in (None, missing_split(look, target, look.config[target.id]))


def _possible(look: Look, target: Placed, changed: Mapping[str, Any], at: KeyPath, what: str) -> None:
    """Validate what the patch makes of the settings of the stage that it reaches."""
    found = locate_stage(changed, target.id)
    assert found is not None
    stage = found[1]
    if what == "seeds":
        seeds = stage["seeds"]
        whole = isinstance(seeds, list) and all(is_seed(seed) for seed in seeds)
        if not whole or not seeds or len(set(seeds)) != len(seeds):
            look.problem(at, "not a list of seeds", "different whole numbers, such as [0, 1, 2]")
        return
    _try_config(look, target, stage.get("config", {}), at)


def _try_config(look: Look, target: Placed, config: Mapping[str, Any], at: KeyPath) -> None:
    if target.id not in look.config or target.spec.kind is None:
        return  # not offered, or wrong already without the patch
    model = look.catalogue.kinds()[target.spec.kind].config_model()
    tried, errors = look.tried(model, config)
    missing = missing_split(look, target, tried) if tried is not None else None
    if missing is not None and missing != missing_split(look, target, look.config[target.id]):
        look.problem(at, *missing)
    for error in errors[:1]:
        look.problem(at, f"in '{target.id}': {error.found}", error.expected, _shortened(error, at))


def _shortened(error: BloomeryError, at: KeyPath) -> str:
    """The hint for a dotted path: with the keys before the wrong one, where it is a key that is wrong."""
    if not error.hint.startswith("did you mean '") or not error.found.startswith("unknown key"):
        return error.hint
    name = error.hint.split("'")[1]
    parts = str(at[-1]).split(".")
    close = difflib.get_close_matches(name, parts, n=1, cutoff=0.0)
    return f"did you mean '{'.'.join(name if part == close[0] else part for part in parts)}'?"


def _hidden(look: Look, target: Placed, below: str, at: KeyPath) -> None:
    """Sweeps and arms are stronger than patches."""
    stage = target.spec
    for swept in stage.sweep:
        if _overlap(swept, below):
            look.problem(at, f"hidden by the sweep over {swept} of '{target.id}'", "a path that is not swept")
    if not stage.arms:
        return
    judged = (fixed_candidate(stage) or "").removeprefix(ARM)
    hiding = [name for name, arm in stage.arms.items() if any(covers(path, below) for path in arm.set)]
    if len(hiding) == len(stage.arms) or judged in hiding:
        look.problem(at, f"hidden by the arm '{hiding[0]}' of '{target.id}'", "a path that no arm sets")


def _changes_nothing(look: Look, placed: Placed, rule: Rule, path: KeyPath) -> None:
    """Warn where a retry from the start would be the same run again."""
    others = [(other, one) for other in look.stages for one in other.spec.on_fail if one is not rule]
    touched = {patched_stage(other.id, key) for other, one in others for key in one.set if _is_path(other.id, key)}
    if any(not _is_path(placed.id, key) or patched_stage(placed.id, key) in touched for key in rule.set):
        return
    try:
        after = apply_patch(look.loaded.raw, placed.id, rule.set)
    except PlanError:
        return
    if after == look.loaded.raw:
        look.warn(path, f"'{rule.name}' changes nothing: the retry would be the same run", "set another value")


def _is_path(stage_id: str, key: str) -> bool:
    try:
        patched_stage(stage_id, key)
    except PlanError:
        return False
    return True


def _variants(look: Look, placed: Placed) -> None:
    """Arms and the stage's own control set real keys too; a control keeps tokens and data."""
    patches: list[tuple[KeyPath, Mapping[str, Any]]] = [
        ((*placed.path, "arms", name, "set"), arm.set) for name, arm in placed.spec.arms.items()
    ]
    if placed.spec.control is not None:
        patches.append(((*placed.path, "control", "set"), placed.spec.control.set))
        _keeps_tokens_and_data(look, placed.spec.control.set, (*placed.path, "control", "set"))
    for path, patch in patches:
        _patched_config(look, placed, patch, path)


def _patched_config(look: Look, placed: Placed, patch: Mapping[str, Any], path: KeyPath) -> None:
    """All of a patch belongs together; where it is wrong, the key that is wrong by itself is named."""
    before = len(look.problems)
    try:
        whole = patched(placed.spec.config, patch)
    except PlanError:
        whole = None
    if whole is not None and not _is_wrong(look, placed, whole):
        return
    for key, value in patch.items():
        try:
            config = patched(placed.spec.config, {key: value})
        except PlanError as error:
            look.problem((*path, key), error.found, error.expected, error.hint)
            continue
        _try_config(look, placed, config, (*path, key))
    if whole is not None and len(look.problems) == before:
        _try_config(look, placed, whole, path)


def _control(look: Look) -> None:
    """The plan's control: its `set` must fit every stage that is trained for it."""
    if look.plan.control is None:
        return
    path: KeyPath = ("control", "set")
    _keeps_tokens_and_data(look, look.plan.control.set, path)
    for key in look.plan.control.set:
        if key.split(".")[0] == "model":
            what = "a shape of the twin's own would undo its match"
            look.problem((*path, key), what, "the twin as it is solved", "change `match` or `tolerance`")
    for placed in look.stages:
        if placed.id not in look.twins:
            continue
        config = look.config.get(placed.id)
        if config is None or placed.spec.kind is None or placed.spec.control is not None:
            continue
        if look.catalogue.kinds()[placed.spec.kind].fits_on(config):
            _patched_config(look, placed, look.plan.control.set, path)


def _keeps_tokens_and_data(look: Look, patch: Mapping[str, Any], path: KeyPath) -> None:
    for key in patch:
        parts = key.split(".")
        first = parts[3] if parts[0] == "stages" and len(parts) > 3 else parts[0]
        if first in NOT_THE_CONTROLS:
            look.problem(
                (*path, key), f"a control with {first} of its own", "the same tokens and data as the candidate"
            )


def _control_has_its_own(look: Look, target: Placed, below: str) -> bool:
    if below.split(".")[0] in _SAME_FOR_BOTH:
        return True
    own = target.spec.control if target.spec.control is not None else look.plan.control
    return own is None or any(covers(path, below) for path in own.set)


def _overlap(one: str, other: str) -> bool:
    return covers(one, other) or covers(other, one)
