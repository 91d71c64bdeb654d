"""Baselines: rivals fitted on exactly the tokens that the judged model has read, always in this process.

Refuses where nothing was read: a baseline has nothing to be fitted on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from bloomery.engine import cells
from bloomery.engine.cellwork import Job, Surroundings, carry_out, finished, silent_context
from bloomery.engine.evaluations import settings_of
from bloomery.engine.history import Cell
from bloomery.engine.session import Session
from bloomery.engine.stage import StageContext, StageResult
from bloomery.errors import PlanError
from bloomery.plan import cast
from bloomery.plan.cast import BASELINE, CANDIDATE
from bloomery.plan.catalogue import Following

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
    config = _followed(attempt, kind.config_model().model_validate(settings.model_dump(exclude={"kind"})), seed)
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
    builder = list(_makers(attempt, seed))[-1]

    def work(ctx: StageContext) -> StageResult:
        ctx.judged = builder.attempt.config(builder.who)
        return kind.fit(config, tokens, ctx)

    return carry_out(session, job, work)


def _followed(attempt: Attempt, config: BaseModel, seed: int) -> BaseModel:
    """The settings, with whatever of the judged model or of the plan's suites they say is the same."""
    if not isinstance(config, Following):
        return config
    session, plan = attempt.session, attempt.plan
    kinds = {name: session.catalogue.suite(suite.kind).config_model() for name, suite in plan.suites.items()}
    suites = [kinds[name].model_validate(settings_of(suite)) for name, suite in plan.suites.items()]
    model = attempt.outputs().get("model", {}).get((CANDIDATE, seed))
    size = None if model is None or model.tally is None else model.tally.bytes
    followed = config.followed(suites, session.catalogue.check_data(plan.data), size)
    if "same" in followed.model_dump().values():
        found = "the judged model's size is not known"
        raise PlanError(f"stages.{attempt.stage.id}", found, "a stage that tells what its model weighs")
    return followed


def _makers(attempt: Attempt, seed: int) -> Iterator[Maker]:
    """The candidate of this attempt, whoever made the model that came in, and so on to who built it."""
    one: Maker | None = Maker(attempt, attempt.candidate, seed)
    seen: set[Path] = set()
    while one is not None:
        yield one
        model = one.attempt.inputs(one.who, one.seed).get("model")
        one = attempt.makers.get(model.path) if model is not None and model.path not in seen else None
        seen.update([model.path] if model is not None else [])


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
    for one in _makers(attempt, seed):
        if one.attempt.kind.fits_on(one.attempt.config(one.who)):
            found.insert(0, one)
            if "state" in cast.needs_of(one.attempt.stage, one.who):
                break
    if not found:
        raise PlanError(
            f"stages.{attempt.stage.id}", "a baseline has nothing to be fitted on", "a stage that reads tokens"
        )
    return found
