"""Checks of claims: each speaks of stages, could be refuted, and names somebody who takes part there.

The alternatives of one `any` speak of one stage, as they are judged together. A claim is answered at the end of a run,
so it may compare with any stage that hands something on, which a stage inside a loop does only inside.
"""

from __future__ import annotations

from bloomery.plan import cast
from bloomery.plan.look import Look, Placed, claimed
from bloomery.plan.schema import AnyOf, Gate
from bloomery.plan.yaml_text import KeyPath


def check(look: Look) -> None:
    for index, claim in enumerate(look.plan.claims):
        path: KeyPath = ("claims", index)
        if not claim.gate:
            look.problem((*path, "gate"), "a claim that nothing could refute", "at least one condition")
        _one_stage(look, claim.gate, (*path, "gate"))
        _one_stage(look, claim.valid_if, (*path, "valid_if"))
    for found in claimed(look.plan):
        reference = cast.claimed_stage(found.condition)
        placed = look.stage(reference.stage) if reference is not None else None
        if reference is None or placed is None:
            continue  # said with the condition
        _party(look, placed, reference, (*found.path, "of"))
        condition = cast.as_of_stage(found.condition)
        if condition.of == condition.relative_to:
            look.problem((*found.path, "relative_to"), f"{condition.of} relative to itself", "another party")
        _inside(look, placed, condition.relative_to or "", (*found.path, "relative_to"))


def _one_stage(look: Look, gate: Gate, path: KeyPath) -> None:
    for index, entry in enumerate(gate):
        if not isinstance(entry, AnyOf):
            continue
        stages = [reference.stage for one in entry.any if (reference := cast.claimed_stage(one)) is not None]
        other = next((number for number, stage in enumerate(stages) if stage != stages[0]), None)
        if other is not None:
            what = f"alternatives about '{stages[0]}' and '{stages[other]}'"
            look.problem((*path, index, "any", other, "of"), what, "one stage in one `any`", "two claims")


def _party(look: Look, placed: Placed, reference: cast.Reference, path: KeyPath) -> None:
    if reference.output:
        look.problem(path, f"'{reference.output}': a claim speaks of a stage", "of: stage:ID or stage:ID@ARM")
    elif reference.arm == cast.CONTROL and not look.has_control(placed):
        look.problem(path, "there is no control", "`control:` in the plan or the stage")


def _inside(look: Look, placed: Placed, party: str, path: KeyPath) -> None:
    target = look.stage(party.removeprefix("stage:")) if party.startswith("stage:") else None
    if target is not None and target.loop is not None:
        what = f"'{target.id}' is inside the loop '{target.loop.id}'"
        look.problem(path, what, f"'stage:{target.loop.id}', which hands it on")
    if target is placed:
        look.problem(path, f"'{placed.id}' relative to itself", "another stage")
