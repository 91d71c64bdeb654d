"""Each party's settings. Weak to strong: the stage's own, a swept value, what the arm or the control sets.

The twin is the candidate's architecture solved again as a dense one: its settings are the candidate's with the patch of
the solution, then the plan's `control.set`. Who takes part is plan.cast's to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from bloomery.engine.stage import Stage
from bloomery.plan import cast
from bloomery.plan.patch import patched
from bloomery.plan.schema import Plan, StageSpec

NOTHING: Mapping[str, Any] = {}


def settings(
    plan: Plan,
    stage: StageSpec,
    kind: Stage,
    who: str,
    *,
    vocab: int,
    swept: Mapping[str, Any] = NOTHING,
    judged: tuple[str, Mapping[str, Any]] | None = None,
) -> BaseModel:
    """The kind's typed settings for one party. `swept`: its values of the swept paths.

    judged: the candidate's party and swept values, which the twin is solved for; where they are not yet known, the
    fixed candidate or the first arm without any.
    """
    model, context = kind.config_model(), {"system": plan.system}

    def raw(party: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return patched(stage.config, {**values, **cast.set_by(stage, party)})

    if who != cast.CONTROL or stage.control is not None:
        return model.model_validate(raw(who, swept), context=context)
    party, values = judged or (cast.fixed_candidate(stage) or cast.arms(stage)[0], NOTHING)
    candidate = model.model_validate(raw(party, values), context=context)
    control = plan.control
    if control is None or not kind.fits_on(candidate):
        return candidate
    patch = kind.twin(
        candidate, system=plan.system, vocab=vocab, match=control.match, tolerance=float(control.tolerance)
    )
    return model.model_validate(patched(raw(party, swept), {**(patch or {}), **control.set}), context=context)
