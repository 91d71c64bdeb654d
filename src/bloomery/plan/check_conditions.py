"""Checks of conditions: metrics that something measures, parties that exist, thresholds that can be met.

A metric is declared by the stage's kind, by a suite, or by the engine; where one of these is not offered by anything
installed, what it may declare is left open.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pydantic import BaseModel

from bloomery.errors import nearest
from bloomery.measure import Emitted
from bloomery.plan import check_enough, metrics
from bloomery.plan.cast import CANDIDATE, fixed_candidate, parse_reference
from bloomery.plan.catalogue import Bringing, SuiteInfo
from bloomery.plan.check_stages import named_stage
from bloomery.plan.look import Asked, Look, Placed, asked, claimed
from bloomery.plan.problems import closest, descend
from bloomery.plan.units import unit_written
from bloomery.plan.yaml_text import KeyPath


def check(look: Look) -> None:
    for placed in look.stages:
        for found in asked(placed):
            _condition(look, found, placed)
        _duplicates(look, list(asked(placed)))
    for found in claimed(look.plan):
        _condition(look, found, _claimed_stage(look, found))
    _duplicates(look, list(claimed(look.plan)))


def _condition(look: Look, found: Asked, placed: Placed | None) -> None:
    condition, path = found.condition, found.path
    if not metrics.well_formed(condition.metric):
        expected = "SOURCE/QUANTITY in a-z 0-9 _, such as text/loss; * is one whole segment"
        look.problem((*path, "metric"), f"'{condition.metric}' is no metric name", expected)
        return
    _sense(look, found)
    if placed is None:
        return
    _of(look, found, placed)
    if condition.relative_to is not None:
        _relative_to(look, found, placed)
    _declared(look, found, placed)
    check_enough.check(look, found, placed)


def _sense(look: Look, found: Asked) -> None:
    """What can be said of a condition by itself."""
    condition, path = found.condition, found.path
    if condition.after is not None and found.place != "stop_if":
        look.problem((*path, "after"), f"`after` in a {found.place}", "it only under `stop_if`")
    if condition.relative_to is None and (*path, "as") in look.loaded.lines:
        look.problem((*path, "as"), "`as` without `relative_to`", "relative_to: control, baseline:X or stage:ID")
    if condition.relative_to is None and condition.metric.endswith("/tokens_to_reference"):
        look.problem((*path, "metric"), "tokens to which reference", "relative_to: control, baseline:X or arm:X")
    if condition.confidence is not None:
        if not 0.5 < condition.confidence < 1:
            found_share = f"a confidence of {condition.confidence:g}"
            look.problem((*path, "confidence"), found_share, "more than 50% and less than 100%")
        if condition.op in ("==", "!="):
            look.problem((*path, "confidence"), f"a confidence for '{condition.op}'", "one of: <, <=, >, >=")
    is_ratio = condition.relative_to is not None and condition.as_ == "ratio"
    if is_ratio and condition.value <= 0 and condition.op in ("<", "<=", "=="):
        what = f"a ratio {condition.op} {condition.value:g}"
        look.problem((*path, "value"), what, "a ratio above 0", "as: difference, where 0 means equal")
    _unit(look, found)


def _unit(look: Look, found: Asked) -> None:
    condition, path = found.condition, (*found.path, "value")
    written = descend(look.loaded.raw, path)
    unit = unit_written(written) if isinstance(written, str) else ""
    if unit not in ("bytes", "seconds", "money"):
        return
    if condition.relative_to is not None and condition.as_ == "ratio":
        look.problem(path, f"a ratio of {written}", "a number without a unit", "as: difference, for an absolute margin")
    elif metrics.unit(condition.metric) != unit:
        ends = {"bytes": "_bytes", "seconds": "_seconds", "money": "_usd"}[unit]
        look.problem(path, f"{written}, but {condition.metric} is not in {unit}", f"a metric that ends in {ends}")


def _duplicates(look: Look, conditions: list[Asked]) -> None:
    """The same condition twice in one list: one of the two thresholds is a mistake."""
    seen: dict[object, Asked] = {}
    for found in conditions:
        condition = found.condition.model_dump(exclude={"value"})
        key = (*found.path[:-1], *(str(item) for item in condition.values()))
        if key in seen:
            first = look.loaded.where(seen[key].path).split(": ")[0]
            what = f"a second condition on {found.condition.metric} {found.condition.op}"
            look.problem(found.path, what, f"one threshold; the first stands at {first}")
        seen.setdefault(key, found)


def _of(look: Look, found: Asked, placed: Placed) -> None:
    of, path = found.condition.of, (*found.path, "of")
    if of == "candidate" or (found.place in ("claim", "valid_if") and of.startswith("stage:")):
        return
    if of == "control":
        if not look.has_control(placed):
            look.problem(path, "there is no control", "`control:` in the plan or the stage")
        return
    if of.startswith("arm:"):
        _arm(look, path, of, placed)
        return
    look.problem(path, f"'{of}' is nobody", "candidate, control or arm:X", nearest(of, ["candidate", "control"]))


def _relative_to(look: Look, found: Asked, placed: Placed) -> None:
    condition, path = found.condition, (*found.path, "relative_to")
    reference = condition.relative_to or ""
    kind, _, name = reference.partition(":")
    if reference == condition.of or (condition.of == CANDIDATE and reference == fixed_candidate(placed.spec)):
        look.problem(path, f"{reference} relative to itself", "another party")
    elif reference == "control":
        if not look.has_control(placed):
            look.problem(path, "there is no control", "`control: {twin: dense}` in the plan, or `control` in the stage")
    elif kind == "baseline" and name:
        _baseline(look, found, placed, name)
        _packable(look, found, name)
    elif kind == "arm" and name:
        _arm(look, path, reference, placed)
    elif kind == "stage" and name:
        anywhere = found.place in ("claim", "valid_if")
        target = look.stage(name) if anywhere else named_stage(look, placed, name, path)
        if anywhere and target is None:
            look.problem(
                path, f"no stage '{name}'", "the id of a stage", nearest(name, [one.id for one in look.stages])
            )
        if target is not None:
            _measured_there(look, found, target)
    else:
        expected = "control, baseline:X, arm:X or stage:ID"
        look.problem(path, f"'{reference}' is nobody", expected, _party(look, reference))


def _party(look: Look, name: str) -> str:
    known = [
        "control",
        *(f"baseline:{one}" for one in look.plan.baselines),
        *(f"stage:{one.id}" for one in look.stages),
    ]
    return nearest(name, known)


def _arm(look: Look, path: KeyPath, party: str, placed: Placed) -> None:
    arm = party.removeprefix("arm:")
    if (arm == "*" and placed.spec.arms) or arm in placed.spec.arms:
        return
    look.problem(path, f"'{placed.id}' has no arm '{arm}'", "an arm of this stage", nearest(arm, placed.spec.arms))


def _baseline(look: Look, found: Asked, placed: Placed, name: str) -> None:
    baselines, path = look.plan.baselines, (*found.path, "relative_to")
    source = metrics.source(found.condition.metric)
    if name in baselines and source in look.plan.suites and name in _brought(look, source):
        look.problem(path, f"two baselines '{name}': one in the plan, one that '{source}' brings", "another name")
    if name in baselines or (name == "*" and baselines) or _may_bring_baselines(look, found, placed, name):
        return
    what = "no baselines" if name == "*" else f"no baseline '{name}'"
    look.problem(
        path, what, "a name under `baselines`", nearest(f"baseline:{name}", [f"baseline:{x}" for x in baselines])
    )


def _packable(look: Look, found: Asked, name: str) -> None:
    """A suite with `through` packs whom it judges, and a table of counts is no model that could be packed."""
    suite = metrics.source(found.condition.metric)
    if suite not in look.plan.suites or not look.plan.suites[suite].through:
        return
    for one, baseline in look.plan.baselines.items():
        known = baseline.kind in look.catalogue.baselines()
        if name in ("*", one) and known and baseline.kind not in look.catalogue.packable_baselines():
            what = f"'{suite}' packs what it judges, and the baseline '{one}' ({baseline.kind}) cannot be packed"
            hint = "compare with the baseline by a suite of the same settings without `through`"
            look.problem((*found.path, "relative_to"), what, "a baseline that is a model, or a stage", hint)


def _may_bring_baselines(look: Look, found: Asked, placed: Placed, name: str) -> bool:
    """Kinds and suites can bring rivals of their own; those that are not offered might."""
    source = metrics.source(found.condition.metric)
    suite = look.plan.suites.get(source)
    if suite is not None:
        brought = _brought(look, source)
        if suite.kind not in look.catalogue.suites() or name in brought or (name == "*" and brought):
            return True
    return placed.spec.kind is not None and placed.spec.kind not in look.catalogue.kinds()


def _brought(look: Look, name: str) -> Collection[str]:
    """The baselines that a suite brings; none where its settings are wrong."""
    info = look.catalogue.suites().get(look.plan.suites[name].kind)
    config = _suite_config(look, name, info) if isinstance(info, Bringing) else None
    return info.brings(config) if isinstance(info, Bringing) and config is not None else ()


def _suite_config(look: Look, name: str, info: SuiteInfo) -> BaseModel | None:
    settings = {key: value for key, value in look.loaded.raw["suites"][name].items() if key not in ("kind", "through")}
    return look.tried(info.config_model(), settings)[0]


def _measured_there(look: Look, found: Asked, target: Placed) -> None:
    """A metric that no suite takes must have been measured by the stage it is compared with."""
    name = found.condition.metric
    own = _own(look, target)
    if metrics.source(name) in look.plan.suites or own is None or metrics.find(name, [*own, *metrics.ENGINE]):
        return
    what = f"'{target.id}' does not measure {name}"
    look.problem((*found.path, "relative_to"), what, "a stage that does, or a suite's metric")


def _declared(look: Look, found: Asked, placed: Placed) -> None:
    name, path = found.condition.metric, (*found.path, "metric")
    source = metrics.source(name)
    if source in look.plan.suites:
        declared = _of_suite(look, source)
        if declared is not None and metrics.find(name, declared) is None:
            what = f"the suite '{source}' does not measure {name}"
            look.problem(path, what, f"one of: {', '.join(sorted(declared))}", closest(name, declared))
        outputs = look.outputs(placed)
        if outputs is not None and "model" not in outputs:
            look.problem(path, f"a suite judges a model, and '{placed.id}' hands none on", "a stage with a model")
        return
    own = _own(look, placed)
    if own is None and source not in ("tally", "cost"):
        return
    known = {**(own or {}), **metrics.ENGINE}
    if metrics.find(name, known) is None:
        every = [*known, *(full for suite in look.plan.suites for full in _of_suite(look, suite) or ())]
        expected = "a metric of the stage's kind (" + ", ".join(sorted(own or metrics.ENGINE)) + ") or of a suite"
        look.problem(path, f"nothing measures {name}", expected, closest(name, every))


def _own(look: Look, placed: Placed) -> Mapping[str, Emitted] | None:
    """What the stage's own kind measures; None where that is not known."""
    if placed.spec.repeat is not None:
        return {"repeat/cycles": Emitted()}
    config = look.config.get(placed.id)
    if config is None or placed.spec.kind is None:
        return None
    return look.catalogue.kinds()[placed.spec.kind].emits(config)


def _of_suite(look: Look, name: str) -> dict[str, Emitted] | None:
    """A suite's full metric names; None where its kind is not offered or its settings are wrong."""
    suite = look.plan.suites[name]
    info = look.catalogue.suites().get(suite.kind)
    if info is None:
        return None
    config = _suite_config(look, name, info)
    if config is None:
        return None
    sources = [f"{name}/{codec}" for codec in suite.through] or [name]
    return {f"{source}/{metric}": emitted for source in sources for metric, emitted in info.emits(config).items()}


def _claimed_stage(look: Look, found: Asked) -> Placed | None:
    """The stage that a claim's condition speaks of."""
    of, path = found.condition.of, (*found.path, "of")
    if not of.startswith("stage:"):
        look.problem(
            path if path in look.loaded.lines else found.path, f"'{of}' in a claim", "of: stage:ID or stage:ID@ARM"
        )
        return None
    reference = parse_reference(of.removeprefix("stage:"))
    placed = look.stage(reference.stage) if reference else None
    if reference is None or placed is None:
        known = [f"stage:{one.id}" for one in look.stages]
        look.problem(path, f"no {of.replace(':', ' ', 1)}", "the id of a stage", nearest(of, known))
        return None
    if reference.arm and reference.arm not in (*placed.spec.arms, "control"):
        look.problem(
            path,
            f"'{placed.id}' has no arm '{reference.arm}'",
            "one of its arms",
            nearest(reference.arm, placed.spec.arms),
        )
    return placed
