"""A cycle as a plan of its own: what `bloomery improve` carries out again and again.

The cycle is the loop of a plan (`repeat`), made once and fed with what cycles before it left; or, of a plan that has an
input `model` and no loop, all its stages. Data, suites and baselines stay; the hypothesis and the claims go: a cycle is
exploratory. Its seeds are those of the plan, moved on with every cycle. Pure: plain data in, a Loaded out.

Refuses a plan with several loops, and one without a cycle.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bloomery.errors import PlanError
from bloomery.plan.cast import parse_reference
from bloomery.plan.load import Loaded, load_text
from bloomery.plan.unroll import Raw

_NOT_OF_A_CYCLE = ("hypothesis", "variable", "claims", "fraction")
"""Gone from a cycle's plan; `fraction` has been applied."""
WHOLE = "cycle"
"""What the loop is called that is made of a plan without one."""


@dataclass(frozen=True, slots=True)
class Held:
    """Something that cycles begin with."""

    folder: Path
    digest: str

    def to_input(self) -> Raw:
        return {"folder": str(self.folder.resolve()), "digest": self.digest}


def loop_of(loaded: Loaded) -> Raw:
    """The loop, as raw data. Raises PlanError where the plan has none that can be taken."""
    loops = [stage for stage in loaded.raw["stages"] if stage.get("repeat") is not None]
    if len(loops) > 1:
        names = ", ".join(str(loop["id"]) for loop in loops)
        raise PlanError(str(loaded.source), f"several loops ({names})", "one `repeat`", "--plan PLAN with one of them")
    if loops:
        return copy.deepcopy(loops[0])
    if "model" not in loaded.plan.inputs:
        raise PlanError(
            str(loaded.source), "has no cycle", "stages under `repeat`, or `inputs` with a `model`",
            "--plan PLAN, whose stages are the cycle",
        )  # fmt: skip
    stages = [_fed(stage, lambda _, text: WHOLE if text == "inputs.model" else text) for stage in loaded.raw["stages"]]
    return {"id": WHOLE, "repeat": 1, "needs": {"model": "inputs.model"}, "stages": stages}


def beside(loop: Raw) -> tuple[tuple[str, str], ...]:
    """(input, reference) of what stages of the loop take from stages outside of it."""
    inside = {loop["id"], *(stage["id"] for stage in loop["stages"])}
    found = [
        (name, text)
        for stage in loop["stages"]
        for needs in _needs(stage)
        for name, text in needs.items()
        if not text.startswith("inputs.") and (reference := parse_reference(text)) and reference.stage not in inside
    ]
    return tuple(dict.fromkeys(found))


def cycle_plan(
    loaded: Loaded, held: Mapping[str, Held], others: Mapping[tuple[str, str], Held], *, name: str, number: int
) -> Loaded:
    """Cycle `number` (from 1) as the plan `name`. held: {what the loop carries: with what it begins}; others: what
    `beside` names. Raises PlanError, or Problems where the cycle cannot stand alone."""
    loop = loop_of(loaded)
    raw = {key: copy.deepcopy(value) for key, value in loaded.raw.items() if key not in _NOT_OF_A_CYCLE}
    inputs: Raw = {}
    fed: dict[tuple[str, str], str] = {}
    needs: dict[str, str] = {}
    for carried, text in loop["needs"].items():
        if carried in held:
            inputs[f"held_{carried}"] = held[carried].to_input()
            needs[carried] = f"inputs.held_{carried}"
        elif text.startswith("inputs."):
            needs[carried] = text
        else:
            found = f"its loop carries '{carried}', of which the run left none"
            raise PlanError(str(loaded.source), found, "only what the run left")
    for place, (wanted, text) in enumerate(others):
        inputs[f"beside_{place}"] = others[wanted, text].to_input()
        fed[wanted, text] = f"inputs.beside_{place}"
    seeds = loaded.plan.seeds
    given = loaded.raw.get("inputs") or {}
    for text in [
        *needs.values(),
        *(text for stage in loop["stages"] for each in _needs(stage) for text in each.values()),
    ]:
        if text.startswith("inputs.") and (own := text.removeprefix("inputs.")) in given:
            inputs[own] = given[own]
    stages = [_moved(_fed(stage, lambda name, text: fed.get((name, text), text)), number) for stage in loop["stages"]]
    raw |= {
        "name": name,
        "inputs": inputs,
        "seeds": moved(seeds, number),
        "stages": [{"id": loop["id"], "repeat": 1, "needs": needs, "stages": stages}],
    }
    return load_text(json.dumps(raw, indent=1), loaded.source)


def moved(seeds: Sequence[int], number: int) -> list[int]:
    """The seeds of cycle `number`: others than those of the run and of every other cycle."""
    width = max(seeds) - min(seeds) + 1
    return [seed + number * width for seed in seeds]


def _moved(stage: Raw, number: int) -> Raw:
    return {**stage, "seeds": moved(stage["seeds"], number)} if stage.get("seeds") else stage


def _needs(stage: Raw) -> Iterator[dict[str, str]]:
    for variant in (stage, *(stage.get("arms") or {}).values(), stage.get("control")):
        if variant and variant.get("needs"):
            yield variant["needs"]


def _fed(stage: Mapping[str, Any], fed: Callable[[str, str], str]) -> Raw:
    """fed: (input, reference) -> where the cycle has it from."""
    out = copy.deepcopy(dict(stage))
    for needs in _needs(out):
        needs |= {name: fed(name, text) for name, text in needs.items()}
    return out
