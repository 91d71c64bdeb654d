"""What stages hand on, and whose of it another stage takes.

A bare `STAGE` means that stage's output of the input's own name, else its `model`. A stage with fewer seeds is shared;
a twin that an earlier stage did not have is the candidate's; an arm named by `STAGE@ARM` must be there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bloomery.engine import parties
from bloomery.engine.artifact import Artifact
from bloomery.engine.session import Session
from bloomery.errors import PlanError
from bloomery.plan.cast import CANDIDATE, arms, parse_reference
from bloomery.plan.schema import Plan

Outputs = dict[str, dict[tuple[str, int], Artifact]]
"""{output: {(who, seed): artifact}}. The candidate's stand there as `candidate`, and as its arm's where it is one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reference means as an input. The output `passed` is no artifact."""

    stage: str
    output: str
    party: str = CANDIDATE
    """Whose: the candidate, unless the reference names an arm or the control."""

    def among(self, handed: Mapping[str, Outputs]) -> bool:
        """Whether it exists."""
        return any(party == self.party for party, _ in handed.get(self.stage, {}).get(self.output, {}))


def wanted(session: Session, plan: Plan, name: str, text: str) -> Wanted:
    """What the reference `text` means as the input `name`."""
    reference = parse_reference(text)
    assert reference is not None, text
    if reference.output:
        return Wanted(reference.stage, reference.output, reference.party)
    stage = plan.stage(reference.stage)
    if stage.kind is None:
        return Wanted(reference.stage, name if name in stage.needs else "model", reference.party)
    kind = session.catalogue.kind(stage.kind)
    produced = kind.produces(parties.settings(plan, stage, kind, arms(stage)[0], vocab=0))
    own = name in produced or name in stage.needs
    return Wanted(reference.stage, name if own else "model", reference.party)


def share(by_cell: Mapping[tuple[str, int], Artifact], who: str, seed: int) -> Artifact:
    """The artifact of this party and seed, or of the candidate, or of the first seed there is."""
    for party in (who, CANDIDATE):
        seeds = tuple(found for owner, found in by_cell if owner == party)
        if seeds:
            return by_cell[party, share_seed(seeds, seed)]
    raise PlanError("needs", f"nothing was handed on for {who}, seed {seed}")


def share_seed(seeds: tuple[int, ...], seed: int) -> int:
    return seed if seed in seeds else seeds[0]
