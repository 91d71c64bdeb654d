"""Which models a run has to show: those of the last promoted stage, or of the stage and the party that are named.

Refuses a stage or party that made no model, with the names of those that did.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bloomery.errors import ArtifactError, nearest
from bloomery.plan.cast import CANDIDATE
from bloomery.report.facts import MadeArtifact
from bloomery.report.view import Attempt, RunView, StageView


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one party of one attempt, a seed each, in the plan's order."""

    stage: str
    attempt: int
    who: str
    folders: dict[int, Path]
    promoted: bool
    """False: no stage of the run was, and this is the last that made a model; or a stage was named that was not."""


def models_of(view: RunView, stage: str | None = None, who: str = CANDIDATE) -> Models:
    """`who` "candidate" is the party that was judged, an arm where the stage has arms. Raises ArtifactError."""
    known = [one.id for one in view.stages]
    if stage is not None and stage not in known:
        raise ArtifactError(
            f"{view.folder}: --stage {stage}", f"no stage '{stage}'", " or ".join(known), nearest(stage, known)
        )
    found = [
        (one, attempt, party, made)
        for one in view.stages
        if stage in (None, one.id) and (attempt := one.shown) is not None
        for party in [attempt.candidate if who == CANDIDATE else who]
        if (made := _made(attempt, party))
    ]
    if not found:
        raise _nothing(view, stage, who)
    promoted = [one for one in found if _promoted(one[0], one[1])]
    last, attempt, party, made = (promoted or found)[-1]
    folders = {one.seed: view.folder / one.path for one in made if one.seed is not None}
    return Models(last.id, attempt.number, party, folders, bool(promoted))


def _made(attempt: Attempt, who: str) -> list[MadeArtifact]:
    return [one for one in attempt.artifacts if one.output == "model" and one.who == who and one.seed is not None]


def _promoted(stage: StageView, attempt: Attempt) -> bool:
    return attempt is stage.last and attempt.decision is not None and attempt.decision.action == "go_on"


def _nothing(view: RunView, stage: str | None, who: str) -> ArtifactError:
    parties = dict.fromkeys(
        made.who
        for one in view.stages
        if stage in (None, one.id)
        for attempt in one.attempts
        for made in attempt.artifacts
        if made.output == "model"
    )
    where = f"{view.folder}: {stage}" if stage else str(view.folder)
    if not parties:
        return ArtifactError(where, "made no model", "a run whose stage made one", "see `bloomery status RUN`")
    return ArtifactError(where, f"no model of '{who}'", "one of: " + ", ".join(parties), nearest(who, parties))
