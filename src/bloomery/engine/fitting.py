"""Baselines: rivals fitted on exactly the tokens that the judged model has read. Cheap, so always in this process.

Refuses where nothing was read: a baseline has nothing to be fitted on.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.engine import cells
from bloomery.engine.cellwork import Job, Surroundings, carry_out, finished, silent_context
from bloomery.engine.history import Cell
from bloomery.engine.session import Session
from bloomery.engine.stage import StageContext
from bloomery.errors import PlanError
from bloomery.plan import cast
from bloomery.plan.cast import BASELINE

if TYPE_CHECKING:
    from bloomery.engine.attempt import Attempt


@dataclass(frozen=True, slots=True)
class Maker:
    """Whose cell made a model."""

    attempt: Attempt
    who: str
    seed: int


def fit_baseline(attempt: Attempt, name: str, seed: int) -> Cell:
    """The baseline's cell of this attempt. Raises Stopped, CellFailed and PlanError."""
    session, plan, stage = attempt.session, attempt.plan, attempt.stage
    settings = plan.baselines[name]
    kind = session.catalogue.baseline(settings.kind)
    config = kind.config_model().model_validate(settings.model_dump(exclude={"kind"}))
    trainers = _trainers(attempt, seed)
    read = [one.attempt.job(one.who, one.seed) for one in trainers]
    known = {"read by": read[-1].fingerprint} | {f"before {n}": one.fingerprint for n, one in enumerate(read[:-1])}
    fingerprint = cells.cell_fingerprint(
        f"baseline/{settings.kind}",
        config.model_dump(mode="json"),
        inputs=known,
        data=session.data.digest if session.data else None,
        seed=seed,
        system=plan.system,
        continue_from=None,
    )
    job = Job(stage.id, attempt.number, f"{BASELINE}{name}", seed, fingerprint, plan.system)
    if found := finished(session, job):
        return found
    around = Surroundings.of(session)
    tokens = itertools.chain.from_iterable(
        one.attempt.kind.tokens_read(
            _where_it_was(session, silent_context(job, around), job), one.attempt.config(one.who)
        )
        for one, job in zip(trainers, read, strict=True)
    )
    return carry_out(session, job, lambda ctx: kind.fit(config, tokens, ctx))


def _where_it_was(session: Session, ctx: StageContext, job: Job) -> StageContext:
    """A cell that was taken over from another attempt has left what it read where it was carried out."""
    cell = session.history.cell(job.key)
    if cell is not None and cell.key != job.key:
        stage, attempt, who, seed = cell.key
        ctx.workdir = replace(job, stage=stage, attempt=attempt, who=who, seed=seed).folder(session.folder)
    return ctx


def _trainers(attempt: Attempt, seed: int) -> list[Maker]:
    """Whose tokens the judged model has seen, first to last: the candidate's of this attempt if it reads any, and those
    of whoever made the model that came in. A training state that comes in brings its own record of what was read."""
    found: list[Maker] = []
    one: Maker | None = Maker(attempt, attempt.candidate, seed)
    seen: set[Path] = set()
    while one is not None:
        if one.attempt.kind.fits_on(one.attempt.config(one.who)):
            found.insert(0, one)
            if "state" in cast.needs_of(one.attempt.stage, one.who):
                break
        model = one.attempt.inputs(one.who, one.seed).get("model")
        one = attempt.makers.get(model.path) if model is not None and model.path not in seen else None
        seen.update([model.path] if model is not None else [])
    if not found:
        raise PlanError(
            f"stages.{attempt.stage.id}", "a baseline has nothing to be fitted on", "a stage that reads tokens"
        )
    return found
