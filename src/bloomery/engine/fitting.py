"""Baselines: rivals fitted on exactly the tokens that the judged model has read. Cheap, so always in this process.

Refuses where nothing was read: a baseline has nothing to be fitted on.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from bloomery.engine import cells
from bloomery.engine.cellwork import Job, Surroundings, carry_out, finished, silent_context
from bloomery.engine.handing import share_seed
from bloomery.engine.history import Cell
from bloomery.errors import PlanError
from bloomery.plan import cast
from bloomery.plan.cast import BASELINE

if TYPE_CHECKING:
    from bloomery.engine.attempt import Attempt


def fit_baseline(attempt: Attempt, name: str, seed: int) -> Cell:
    """The baseline's cell of this attempt. Raises Stopped, CellFailed and PlanError."""
    session, plan, stage = attempt.session, attempt.plan, attempt.stage
    settings = plan.baselines[name]
    kind = session.catalogue.baseline(settings.kind)
    config = kind.config_model().model_validate(settings.model_dump(exclude={"kind"}))
    trainers = _trainers(attempt)
    read = [one.job(one.candidate, share_seed(one.seeds, seed)) for one in trainers]
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
        one.kind.tokens_read(silent_context(job, around), one.config(one.candidate))
        for one, job in zip(trainers, read, strict=True)
    )
    return carry_out(session, job, lambda ctx: kind.fit(config, tokens, ctx))


def _trainers(attempt: Attempt) -> list[Attempt]:
    """The attempts whose tokens the judged model has seen, first to last: this one if it reads any, and those that
    made the model that came in. A training state that comes in brings its own record of what was read."""
    found: list[Attempt] = []
    one: Attempt | None = attempt
    while one is not None:
        needs = cast.needs_of(one.stage, one.candidate)
        if one.kind.fits_on(one.config(one.candidate)):
            found.insert(0, one)
            if "state" in needs:
                break
        reference = cast.parse_reference(needs.get("model", ""))
        earlier = attempt.earlier.get(reference.stage) if reference else None
        one = None if earlier is one else earlier
    if not found:
        raise PlanError(
            f"stages.{attempt.stage.id}", "a baseline has nothing to be fitted on", "a stage that reads tokens"
        )
    return found
