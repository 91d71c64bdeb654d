"""What stages hand on, and whose of it another stage takes.

A bare `STAGE` means that stage's output of the input's own name, else its `model`. A stage with fewer seeds is shared;
a party that a stage did not have takes the candidate's.
"""

from __future__ import annotations

from collections.abc import Mapping

from bloomery.engine import parties
from bloomery.engine.artifact import Artifact
from bloomery.engine.cells import CANDIDATE
from bloomery.engine.session import Session
from bloomery.errors import PlanError
from bloomery.plan.schema import Plan

Outputs = dict[str, dict[tuple[str, int], Artifact]]
"""{output: {(who, seed): artifact}}"""


def wanted(session: Session, plan: Plan, name: str, reference: str) -> tuple[str, str]:
    """(stage, output) that a reference means as the input `name`; the output `passed` is no artifact."""
    stage_id, _, output = reference.partition(".")
    if output:
        return stage_id, output
    stage = plan.stage(stage_id)
    kind = session.catalogue.kind(stage.kind or "")
    produced = kind.produces(parties.settings(plan, stage, kind, CANDIDATE, vocab=0))
    return stage_id, name if name in produced or name in stage.needs else "model"


def share(by_cell: Mapping[tuple[str, int], Artifact], who: str, seed: int) -> Artifact:
    """The artifact of this party and seed, or of the candidate, or of the first seed there is."""
    for party in (who, CANDIDATE):
        seeds = tuple(found for owner, found in by_cell if owner == party)
        if seeds:
            return by_cell[party, share_seed(seeds, seed)]
    raise PlanError("needs", f"nothing was handed on for {who}, seed {seed}")


def share_seed(seeds: tuple[int, ...], seed: int) -> int:
    return seed if seed in seeds else seeds[0]
