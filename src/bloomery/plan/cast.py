"""Who takes part in a stage and why, decided from the plan alone: arms, control, baselines, trials of a sweep, suites.

A party is `candidate` (a stage without arms), `arm:X`, `control`, or `baseline:X`. What a condition, a rule or a claim
does not name is not run: a control runs where something says `control`, and the twin in the stages that one builds on;
a baseline where it is named; a suite on the candidate where anything asks for it, and on others where they are named.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.plan.schema import AnyOf, Claim, Condition, Gate, Plan, StageSpec

CANDIDATE, CONTROL, ARM, BASELINE, BEST = "candidate", "control", "arm:", "baseline:", "best"

_REFERENCE = re.compile(r"(?P<stage>[\w-]+)(?:@(?P<arm>[\w-]+))?(?:\.(?P<output>[\w-]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """`STAGE`, `STAGE.OUTPUT`, `STAGE@ARM`; output is empty where none is named."""

    stage: str
    arm: str = ""
    output: str = ""

    @property
    def party(self) -> str:
        """Whose output it is."""
        return party_of(self.arm)


@functools.lru_cache(maxsize=4096)
def parse_reference(text: str) -> Reference | None:
    match = _REFERENCE.fullmatch(text)
    return Reference(match["stage"], match["arm"] or "", match["output"] or "") if match else None


def party_of(arm: str) -> str:
    """The party that stands after an `@`: an arm's name, `control`, or nothing for the candidate."""
    return arm if arm == CONTROL else f"{ARM}{arm}" if arm else CANDIDATE


def conditions_of(gate: Gate) -> Iterator[Condition]:
    """Every condition, those inside `any` included."""
    for entry in gate:
        yield from entry.any if isinstance(entry, AnyOf) else (entry,)


# Claims


def claimed_stage(condition: Condition) -> Reference | None:
    """The stage (and arm) that a claim's condition speaks of; None where its `of` is no `stage:...`."""
    return parse_reference(condition.of.removeprefix("stage:")) if condition.of.startswith("stage:") else None


def as_of_stage(condition: Condition) -> Condition:
    """A claim's condition as the stage itself would say it: `of: stage:ID@X` becomes `of: arm:X`."""
    reference = claimed_stage(condition)
    return condition if reference is None else condition.model_copy(update={"of": reference.party})


def conditions_of_claim(claim: Claim) -> Iterator[Condition]:
    yield from conditions_of(claim.gate)
    yield from conditions_of(claim.valid_if)


# Conditions and those whom they name


@dataclass(frozen=True, slots=True)
class Asking:
    """A condition about a stage, and what asks: `gate`, `rule NAME`, `stop_if` or `claim ID`."""

    condition: Condition
    why: str

    def names(self, party: str) -> bool:
        """Whether it speaks of `party`, by name or by `arm:*` or `baseline:*`."""
        spoken = {self.condition.of, self.condition.relative_to}
        everyone = party.partition(":")[0] + ":*"
        return party in spoken or (":" in party and everyone in spoken)


def asking(plan: Plan, stage: StageSpec) -> Iterator[Asking]:
    """Everything that is asked about a stage: by its gate, its rules, its `stop_if`, and the plan's claims."""
    for condition in conditions_of(stage.gate):
        yield Asking(condition, "gate")
    for rule in stage.on_fail:
        for condition in conditions_of(rule.when):
            yield Asking(condition, f"rule {rule.name}")
    for condition in stage.stop_if:
        yield Asking(condition, "stop_if")
    ids = (stage.id, stage.written_id)
    for claim in plan.claims:
        for condition in conditions_of_claim(claim):
            reference = claimed_stage(condition)
            if reference is not None and reference.stage in ids:
                yield Asking(as_of_stage(condition), f"claim {claim.id}")


def named(plan: Plan, stage: StageSpec) -> set[str]:
    """Whom those conditions speak of: candidate, control, arm:X, baseline:X, stage:ID, with `*` as written."""
    spoken = {who for one in asking(plan, stage) for who in (one.condition.of, one.condition.relative_to)}
    return {who for who in spoken if who is not None}


# Parties


def arms(stage: StageSpec) -> tuple[str, ...]:
    """`arm:X` of every arm; of a stage without arms, the candidate alone."""
    return tuple(f"{ARM}{name}" for name in stage.arms) or (CANDIDATE,)


def fixed_candidate(stage: StageSpec) -> str | None:
    """The party that is judged and handed on; None where `best` is chosen when all arms have run."""
    if stage.arms and stage.candidate == BEST and BEST not in stage.arms:
        return None
    return f"{ARM}{stage.candidate or next(iter(stage.arms))}" if stage.arms else CANDIDATE


def why_control(plan: Plan, stage: StageSpec) -> str | None:
    """Why a stage has a control: what names it, or the later stage that needs its twin; None where it has none."""
    here = next((one.why for one in asking(plan, stage) if one.names(CONTROL)), None)
    wanted = f"{stage.id}@{CONTROL}"
    if here is None and any(text.partition(".")[0] == wanted for one in plan.stages for text in _texts(one)):
        here = f"{wanted} is an input"
    if stage.control is not None:
        return here
    if plan.control is None:
        return None
    if here is not None:
        return here
    if stage.repeat is not None:
        return None
    for other in plan.stages:
        said = other.control is None and any(one.names(CONTROL) for one in asking(plan, other))
        if said and stage.id in ancestors(plan, other):
            return f"stage {other.id} builds on it"
    return None


def ancestors(plan: Plan, stage: StageSpec) -> frozenset[str]:
    """Ids of the stages that a stage builds on, through whatever inputs; of a loop all its cycles."""
    found: set[str] = set()
    by_id = {one.id: one for one in plan.stages}
    waiting = [stage]
    while waiting:
        current = waiting.pop()
        for text in _texts(current):
            reference = parse_reference(text)
            target = by_id.get(reference.stage) if reference else None
            if target is None:
                continue
            inside = current.cycle is not None and current.cycle.loop == target.id
            cycles = [] if inside else [one for one in plan.stages if one.cycle and one.cycle.loop == target.id]
            for one in (target, *cycles):
                if one.id not in found:
                    found.add(one.id)
                    waiting.append(one)
    return frozenset(found)


def parties(plan: Plan, stage: StageSpec) -> tuple[str, ...]:
    """Everyone that runs the stage: its arms or the candidate, and the control."""
    return arms(stage) + ((CONTROL,) if why_control(plan, stage) is not None else ())


def needs_of(stage: StageSpec, who: str) -> Mapping[str, str]:
    """The references of one party's inputs: the stage's own, with those of the arm or the stage's own control."""
    variant = stage.control if who == CONTROL else stage.arms.get(who.removeprefix(ARM))
    return {**stage.needs, **(variant.needs if variant is not None else {})}


def takes_from(stage: StageSpec, who: str) -> str:
    """Whose outputs of earlier stages a party takes: the twin its own, everyone else the candidate's."""
    return CONTROL if who == CONTROL and stage.control is None else CANDIDATE


def set_by(stage: StageSpec, who: str) -> Mapping[str, Any]:
    """What an arm, or the stage's own control, changes in the settings."""
    variant = stage.control if who == CONTROL else stage.arms.get(who.removeprefix(ARM))
    return variant.set if variant is not None else {}


def baselines(plan: Plan, stage: StageSpec) -> list[str]:
    """Names of the plan's baselines that something about this stage asks for."""
    said = list(asking(plan, stage))
    return [name for name in plan.baselines if any(one.names(f"{BASELINE}{name}") for one in said)]


def seeds(plan: Plan, stage: StageSpec) -> tuple[int, ...]:
    return stage.seeds if stage.seeds is not None else plan.seeds


def trials(stage: StageSpec) -> tuple[Mapping[str, Any], ...]:
    """The points of the sweep, every combination of its values, in the order written; none without a sweep."""
    if not stage.sweep:
        return ()
    return tuple(dict(zip(stage.sweep, values, strict=True)) for values in itertools.product(*stage.sweep.values()))


def is_swept(plan: Plan, stage: StageSpec, who: str) -> bool:
    """Whether the sweep changes anything for this party: what it sets itself is stronger than a swept value."""
    own = {**set_by(stage, who), **(plan.control.set if who == CONTROL and plan.control and not stage.control else {})}
    return any(not any(path == key or path.startswith(key + ".") for key in own) for path in stage.sweep)


# Suites


def suites(plan: Plan, stage: StageSpec, who: str, *, candidate: bool = False) -> list[str]:
    """The suites that judge a party, in the order of the plan.

    candidate: whether this party is the judged one; then every suite that anything asks for. Others are judged by
    those whose conditions name them; arms and control by those under `evaluate` too.
    """
    asked = {
        one.condition.metric.split("/", 1)[0]
        for one in asking(plan, stage)
        if candidate or one.names(who) or (who.startswith("stage:") and one.condition.relative_to == who)
    }
    if who in (CANDIDATE, CONTROL) or who.startswith(ARM):
        asked |= set(stage.evaluate)
    return [name for name in plan.suites if name in asked]


def deciding_suites(stages: Iterable[StageSpec]) -> frozenset[str]:
    """Those by which something is decided while a plan runs, within loops too. What claims and `evaluate` ask for is
    only told."""
    found: set[str] = set()
    for stage in stages:
        gates = (stage.gate, stage.stop_if, *(rule.when for rule in stage.on_fail))
        found |= {condition.metric.split("/", 1)[0] for gate in gates for condition in conditions_of(gate)}
        found |= deciding_suites(stage.stages)
    return frozenset(found)


def _texts(stage: StageSpec) -> Iterator[str]:
    """Every reference of a stage's inputs, those of its arms and its own control among them."""
    yield from stage.needs.values()
    for variant in (*stage.arms.values(), *([stage.control] if stage.control else [])):
        yield from variant.needs.values()
