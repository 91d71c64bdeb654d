"""Checks of loops: ids that stay apart when cycles become stages, something carried on, nothing that is ignored.

A loop holds what comes in and repeats its stages; it trains nothing, is judged by nothing and never fails, so what
another stage would say of itself says nothing here. A loop inside a loop is refused.
"""

from __future__ import annotations

from collections import Counter

from bloomery.errors import PlanError
from bloomery.plan.look import Look, Placed
from bloomery.plan.patch import patched_stage
from bloomery.plan.unroll import MOST_CYCLES, unrolled_id
from bloomery.plan.yaml_text import KeyPath

_NOT_OF_A_LOOP = (
    "config", "arms", "candidate", "sweep", "select", "control", "evaluate", "gate", "on_fail", "stop_if", "optional",
    "seeds", "budget",
)  # fmt: skip


def check(look: Look) -> None:
    loops = [placed for placed in look.stages if placed.spec.repeat is not None]
    for placed in loops:
        _itself(look, placed)
        _carries(look, placed)
    _ids(look, loops)
    for placed in look.stages:
        _rules(look, placed)


def _itself(look: Look, placed: Placed) -> None:
    repeat = placed.spec.repeat or 0
    if repeat > MOST_CYCLES:
        look.problem((*placed.path, "repeat"), f"{repeat} cycles", f"at most {MOST_CYCLES}")
    if placed.loop is not None:
        what = f"a loop inside the loop '{placed.loop.id}'"
        look.problem((*placed.path, "repeat"), what, "stages without `repeat`", "put one loop after the other")
    for key in _NOT_OF_A_LOOP:
        if (*placed.path, key) in look.loaded.lines:
            what = f"`{key}` of a loop, which trains nothing and never fails"
            look.problem((*placed.path, key), what, "it in one of the loop's stages")


def _carries(look: Look, placed: Placed) -> None:
    """Warn where no stage makes anew what the loop carries: every cycle would begin with the same."""
    inner = [other for other in look.stages if other.loop is placed]
    made: set[str] = set()
    for other in inner:
        config = look.config.get(other.id)
        if config is None or other.spec.kind is None:
            return  # not offered, or wrong: it might
        kind = look.catalogue.kinds()[other.spec.kind]
        trains = bool(kind.fits_on(config))
        produced = set(kind.produces(config))
        made |= produced if trains else produced - set(other.spec.needs)
    for name in placed.spec.needs:
        if inner and name not in made:
            what = f"no stage of the loop makes another '{name}': every cycle begins with the same one"
            look.warn((*placed.path, "needs", name), what)


def _ids(look: Look, loops: list[Placed]) -> None:
    """Stage `x` of loop `L` is called `L-1-x`, `L-2-x`, ...: nothing else may be."""
    unrolled = [
        (unrolled_id(loop.id, number, inner.id), inner)
        for loop in loops
        for number in range(1, min(loop.spec.repeat or 0, MOST_CYCLES) + 1)
        for inner in look.stages
        if inner.loop is loop
    ]
    written = {placed.id: placed for placed in look.stages}
    times = Counter(name for name, _ in unrolled)
    told: set[str] = set()
    for name, inner in unrolled:
        whose = f"what '{inner.id}' is called in a cycle of '{inner.loop.id if inner.loop else ''}'"
        if name in written and name not in told:
            look.problem((*written[name].path, "id"), f"'{name}' is {whose}", "another id")
        elif times[name] > 1 and name in told:
            look.problem((*inner.path, "id"), f"'{name}', {whose}, is another stage already", "another id")
            return
        told.add(name)


def _rules(look: Look, placed: Placed) -> None:
    for index, rule in enumerate(placed.spec.on_fail):
        path: KeyPath = (*placed.path, "on_fail", index)
        if placed.loop is not None and rule.then == "stop":
            what = f"'{rule.name}' ends the whole plan, not only the loop '{placed.loop.id}'"
            look.warn((*path, "then"), what, "without a rule, a cycle that does not pass is undone and ends the loop")
        for key in rule.set:
            try:
                target = look.stage(patched_stage(placed.id, key)[0])
            except PlanError:
                continue
            if target is not None and target.spec.repeat is not None:
                look.problem((*path, "set", key), f"'{target.id}' is a loop and has no settings", "one of its stages")
