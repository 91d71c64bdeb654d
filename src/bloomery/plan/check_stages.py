"""Checks of the graph: ids, kinds, settings, references in `needs`, what may be absent, arms and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bloomery.errors import nearest
from bloomery.plan.cast import parse_reference
from bloomery.plan.look import Look, Placed
from bloomery.plan.problems import closest
from bloomery.plan.yaml_text import KeyPath

_RESERVED = ("inputs", "stages", "candidate", "control")


def check(look: Look) -> None:
    _ids(look)
    look.offered(("system",), look.plan.system, look.catalogue.systems(), "system")
    _seeds(look, look.plan.seeds, ("seeds",))
    for placed in look.stages:
        _shape(look, placed)
        _settings(look, placed)
    for placed in look.stages:
        _needs(look, placed)
        if placed.spec.seeds is not None:
            _seeds(look, placed.spec.seeds, (*placed.path, "seeds"))
        for index, suite in enumerate(placed.spec.evaluate):
            if suite not in look.plan.suites:
                path = (*placed.path, "evaluate", index)
                look.problem(path, f"no suite '{suite}'", "a name under `suites`", nearest(suite, look.plan.suites))
        _twice(look, placed.spec.evaluate, (*placed.path, "evaluate"), "suite")


def _ids(look: Look) -> None:
    seen: dict[str, KeyPath] = {}
    for placed in look.stages:
        path = (*placed.path, "id")
        if placed.id in _RESERVED:
            look.problem(path, f"'{placed.id}' is a word of the grammar", "another id")
        if placed.id in seen:
            first = look.loaded.where(seen[placed.id]).split(": ")[0]
            look.problem(path, f"a second stage '{placed.id}'", f"an id of its own; the first stands at {first}")
        seen.setdefault(placed.id, path)
    claims: set[str] = set()
    for index, claim in enumerate(look.plan.claims):
        if claim.id in claims:
            look.problem(("claims", index, "id"), f"a second claim '{claim.id}'", "an id of its own")
        claims.add(claim.id)


def _shape(look: Look, placed: Placed) -> None:
    stage = placed.spec
    if stage.repeat is None and stage.kind is None:
        what = "a stage with `stages` but without `repeat`" if stage.stages else "a stage without `kind`"
        look.problem(placed.path, what, "kind: NAME, or repeat: N with stages: [...]")
    if stage.repeat is not None:
        if stage.kind is not None:
            look.problem((*placed.path, "kind"), "a loop with a kind", "either `kind`, or `repeat` and `stages`")
        if not stage.stages:
            look.problem((*placed.path, "repeat"), "a loop without stages", "stages: [...]")
    elif stage.stages and stage.kind is not None:
        look.problem((*placed.path, "stages"), "stages inside a stage", "repeat: N, where they are a loop")


def _settings(look: Look, placed: Placed) -> None:
    kind = placed.spec.kind
    if kind is None or not look.offered((*placed.path, "kind"), kind, look.catalogue.kinds(), "stage kind"):
        return
    if _unbuildable(look, placed):
        return
    model = look.catalogue.kinds()[kind].config_model()
    config = look.typed((*placed.path, "config"), model, placed.spec.config)
    if config is not None:
        look.config.setdefault(placed.id, config)


def _unbuildable(look: Look, placed: Placed) -> bool:
    """Whether the system that the stage builds on is not offered: then its settings mean nothing yet."""
    model = placed.spec.config.get("model")
    system = model.get("system") if isinstance(model, Mapping) else None
    if system is None:
        return look.plan.system not in look.catalogue.systems()
    if not isinstance(system, str):
        return False
    path: KeyPath = (*placed.path, "config", "model", "system")
    return not look.offered(path, system, look.catalogue.systems(), "system")


def _needs(look: Look, placed: Placed) -> None:
    for name, text in placed.spec.needs.items():
        _reference(look, placed, name, text, (*placed.path, "needs", name))
    for arm, spec in placed.spec.arms.items():
        for name, text in spec.needs.items():
            _reference(look, placed, name, text, (*placed.path, "arms", arm, "needs", name))
    if placed.spec.control is not None:
        for name, text in placed.spec.control.needs.items():
            _reference(look, placed, name, text, (*placed.path, "control", "needs", name))
    _accepted(look, placed)


def _accepted(look: Look, placed: Placed) -> None:
    config = look.config.get(placed.id)
    if config is None or placed.spec.kind is None:
        return
    accepted = look.catalogue.kinds()[placed.spec.kind].accepts(config)
    for name, text in placed.spec.needs.items():
        if name not in accepted and "*" not in accepted and not text.endswith(".passed"):
            known = ", ".join(sorted(accepted)) or "none"
            path = (*placed.path, "needs", name)
            look.problem(
                path, f"{placed.spec.kind} takes no input '{name}'", f"one of: {known}", closest(name, accepted)
            )
    for name, required in accepted.items():
        if required and name not in placed.spec.needs:
            hint = f"needs: {{{name}: STAGE}}"
            look.problem(
                placed.path, f"{placed.spec.kind} needs the input '{name}'", f"it under `needs` of '{placed.id}'", hint
            )


def _reference(look: Look, placed: Placed, name: str, text: str, path: KeyPath) -> None:
    if text.startswith("inputs."):
        foreign = text.removeprefix("inputs.")
        if foreign not in look.plan.inputs:
            look.problem(path, f"no input '{foreign}'", "a name under `inputs`", nearest(foreign, look.plan.inputs))
        return
    reference = parse_reference(text)
    if reference is None:
        look.problem(path, f"'{text}' is no reference", "STAGE, STAGE.OUTPUT, STAGE@ARM, STAGE.passed or inputs.NAME")
        return
    target = named_stage(look, placed, reference.stage, path)
    if target is None:
        return
    arms = [*target.spec.arms, "control"]
    if reference.arm and reference.arm not in arms:
        look.problem(
            path, f"'{target.id}' has no arm '{reference.arm}'", "one of its arms", nearest(reference.arm, arms)
        )
    outputs = look.outputs(target)
    if outputs is not None and reference.output != "passed":
        wanted = reference.output or (name if name in outputs else "model")
        if wanted not in outputs:
            found = f"'{target.id}' hands on no '{wanted}'"
            look.problem(path, found, "one of: " + (", ".join(sorted(outputs)) or "nothing"), closest(wanted, outputs))
            return
    if not placed.spec.optional and may_be_absent(look, target, reference.output or "model", name):
        passed = reference.output == "passed"
        why = "exists only if it passed" if passed else f"'{target.id}' is optional and has no input to hand on instead"
        what = f"'{text}' may be absent: {why}"
        look.problem(
            path, what, "something that always exists", f"make '{placed.id}' optional too, or need another output"
        )


def named_stage(look: Look, placed: Placed, stage_id: str, path: KeyPath) -> Placed | None:
    """The stage that `placed` names, if it may; else None and a problem."""
    visible = look.visible(placed)
    for other in visible:
        if other.id == stage_id:
            return other
    known = [other.id for other in visible]
    expected = "an earlier stage"
    target = look.stage(stage_id)
    if target is None:
        look.problem(path, f"no stage '{stage_id}'", expected, nearest(stage_id, known))
    elif target is placed:
        look.problem(path, f"'{stage_id}' is this stage itself", expected)
    elif (
        target.loop is not None
        and target.loop is not placed.loop
        and look.stages.index(target) < look.stages.index(placed)
    ):
        look.problem(
            path, f"'{stage_id}' is inside the loop '{target.loop.id}'", f"'{target.loop.id}', which hands it on"
        )
    else:
        circle = " -> ".join(_way(look, target, placed.id)) if "needs" in path else ""
        found = f"a circle: {placed.id} -> {circle}" if circle else f"'{stage_id}' comes later"
        look.problem(
            path, found, expected, f"stages run in the order of the file: move '{stage_id}' up" if not circle else ""
        )
    return None


def _way(look: Look, start: Placed, goal: str, seen: frozenset[str] = frozenset()) -> list[str]:
    """The ids from `start` to the stage `goal` along `needs`; empty where there is no way."""
    if start.id == goal:
        return [goal]
    for text in start.spec.needs.values():
        reference = parse_reference(text)
        target = look.stage(reference.stage) if reference else None
        if target is not None and target.id not in seen:
            rest = _way(look, target, goal, seen | {start.id})
            if rest:
                return [start.id, *rest]
    return []


def may_be_absent(look: Look, placed: Placed, output: str, as_input: str = "") -> bool:
    """Whether a stage may end without handing this on: because it is optional and has no input of that name."""
    if output == "passed":
        return placed.spec.optional or any(rule.then == "go_on" for rule in placed.spec.on_fail)
    if not placed.spec.optional:
        return False
    handed = as_input if as_input in placed.spec.needs else output
    if handed not in placed.spec.needs:
        return True
    reference = parse_reference(placed.spec.needs[handed])
    target = look.stage(reference.stage) if reference else None
    if reference is None or target is None or target not in look.visible(placed):
        return False
    return may_be_absent(look, target, reference.output or "model", handed)


def _seeds(look: Look, seeds: Iterable[int], path: KeyPath) -> None:
    _twice(look, seeds, path, "seed")
    for index, seed in enumerate(seeds):
        if not is_seed(seed):
            look.problem((*path, index), f"the seed {seed}", EXPECTED_SEED)


def is_seed(value: object) -> bool:
    """What every generator takes."""
    return type(value) is int and 0 <= value < 2**63


EXPECTED_SEED = "a whole number from 0, below 2^63"


def _twice(look: Look, values: Iterable[object], path: KeyPath, what: str) -> None:
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            look.problem((*path, index), f"the {what} {value} a second time", f"every {what} once")
        seen.add(value)
