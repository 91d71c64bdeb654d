"""The evidence on an attempt: what its parties measured, what suites find of them, of rivals and of earlier stages.

Suites run here, each on whom its conditions name, and never twice on the same artifact; a rival that a suite brings is
the one that stood beside the candidate. Of an attempt that could not be
carried out only what its own cells measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType

from bloomery.engine.artifact import Artifact
from bloomery.engine.attempt import Attempt
from bloomery.engine.evaluations import evaluate
from bloomery.engine.handing import Outputs
from bloomery.measure import Measurement
from bloomery.plan import cast
from bloomery.plan.cast import BASELINE, CANDIDATE


def gather(attempt: Attempt, since: Mapping[str, Outputs] = MappingProxyType({})) -> list[Measurement]:
    """Everything measured for an attempt. Raises Stopped before a suite.

    since: what has been handed on in the meantime, for comparisons with stages that came after it."""
    evidence = list(_of_failed(attempt))
    if attempt.failure:
        return evidence + list(_measured(attempt))
    evidence += _measured(attempt)
    handed = attempt.outputs().get("model", {})
    for (who, seed), cell in attempt.cells.items():
        rival = who.startswith(BASELINE)
        model = cell.artifacts(attempt.session.folder).get("model") if rival else handed.get((who, seed))
        if model is not None:
            evidence += _judged(attempt, model, who, seed)
    for reference in sorted(party for party in cast.named(attempt.plan, attempt.stage) if party.startswith("stage:")):
        handed = {**since, **attempt.handed}.get(reference.removeprefix("stage:"), {})
        evidence += _of_stage(attempt, reference, handed.get("model", {}))
    return evidence


def _measured(attempt: Attempt) -> Iterator[Measurement]:
    for (who, seed), cell in attempt.cells.items():
        yield from (replace(one, who=who, seed=seed) for one in cell.measurements.values())


def _of_failed(attempt: Attempt) -> Iterator[Measurement]:
    """What a party measured before it failed."""
    for who, (seed, cell) in attempt.lost.items():
        yield from (replace(one, who=who, seed=seed) for one in cell.measurements.values())


def _of_stage(attempt: Attempt, reference: str, models: Mapping[tuple[str, int], Artifact]) -> Iterator[Measurement]:
    """Of what a stage handed on."""
    for (who, seed), model in models.items():
        if who == CANDIDATE:
            for measurement in attempt.session.measured_of.get(model.digest, ()):
                yield replace(measurement, who=reference, seed=seed)
            yield from _judged(attempt, model, reference, seed)


def _judged(attempt: Attempt, model: Artifact, who: str, seed: int) -> Iterator[Measurement]:
    session, plan, stage = attempt.session, attempt.plan, attempt.stage
    for suite in cast.suites(plan, stage, who, candidate=who == attempt.candidate):
        found = evaluate(session, plan, suite, model, stage=stage.id, attempt=attempt.number, who=who, seed=seed)
        yield from (one for one in found if one.who == who or who == attempt.candidate)
