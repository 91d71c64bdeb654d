"""Who takes part in a stage, and each party's settings: the candidate's as written, the control's solved."""

from __future__ import annotations

from pydantic import BaseModel

from bloomery.engine.cells import CANDIDATE, CONTROL, stages_with_control
from bloomery.engine.stage import Stage
from bloomery.plan.patch import patched
from bloomery.plan.schema import Plan, StageSpec


def parties(plan: Plan, stage: StageSpec) -> tuple[str, ...]:
    return (CANDIDATE, CONTROL) if stage.id in stages_with_control(plan) else (CANDIDATE,)


def seeds(plan: Plan, stage: StageSpec) -> tuple[int, ...]:
    return stage.seeds if stage.seeds is not None else plan.seeds


def settings(plan: Plan, stage: StageSpec, kind: Stage, who: str, *, vocab: int) -> BaseModel:
    """The kind's typed settings for one party; the control's differ by the twin's patch and the control's own `set`."""
    model, context = kind.config_model(), {"system": plan.system}
    candidate = model.model_validate(dict(stage.config), context=context)
    if who != CONTROL or plan.control is None or not kind.fits_on(candidate):
        return candidate
    control = plan.control
    patch = kind.twin(
        candidate, system=plan.system, vocab=vocab, match=control.match, tolerance=float(control.tolerance)
    )
    return model.model_validate(patched(stage.config, {**(patch or {}), **control.set}), context=context)
