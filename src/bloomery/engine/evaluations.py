"""Suites on artifacts: each pair is judged once in a run, and remembered under the digests of both.

The measurements carry the suite's name and whoever asked first, those of a rival that the suite brings (catalogue.
Bringing) the rival's; `retold` gives them to the party that asks now. A suite
with `through` judges not the model but what each codec leaves of it, as SUITE/CODEC/QUANTITY; it passes over baselines
that cannot be packed, and `check` refuses every condition that would ask for one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bloomery.engine.artifact import Artifact
from bloomery.engine.history import JUDGED
from bloomery.engine.packing import packed
from bloomery.engine.session import Meter, Session
from bloomery.engine.stage import Stopped
from bloomery.measure import Emitted, Measurement
from bloomery.plan.canon import digest
from bloomery.plan.cast import BASELINE
from bloomery.plan.schema import Plan, Suite


def evaluate(
    session: Session, plan: Plan, name: str, model: Artifact, *, stage: str, attempt: int, who: str, seed: int
) -> list[Measurement]:
    """What suite `name` measures on `model`, for `who` and `seed`. Raises Stopped before a suite, never inside one."""
    if name in session.left_out:
        return []
    suite = plan.suites[name]
    place: dict[str, Any] = {"stage": stage, "attempt": attempt, "who": who, "seed": seed}
    if not suite.through:
        return _judged(session, suite, name, model, place)
    if not _packable(session, plan, who):
        return []
    plain = suite.model_copy(update={"through": ()})
    found: list[Measurement] = []
    for codec in suite.through:
        artifact = packed(session, model, codec, **place)
        found += _judged(session, plain, f"{name}/{codec}", artifact, place, codec=codec)
    return found


def _judged(
    session: Session, suite: Suite, name: str, model: Artifact, place: dict[str, Any], **more: Any
) -> list[Measurement]:
    """What one suite measures on exactly this artifact: remembered, or measured now. `more`: of samples, whence."""
    data = session.data.digest if session.data else None
    key = digest({"suite": name, "settings": suite.model_dump(mode="json"), "data": data})
    who, seed = place["who"], place["seed"]
    done = session.history.evaluations.get((key, model.digest))
    if done is None:
        if session.stop_reason():
            raise Stopped
        session.observe({"event": "evaluating", "suite": name, **place})
        meter = Meter(session, **place)
        kind = session.catalogue.suite(suite.kind)
        config = kind.config_model().model_validate(settings_of(suite))
        folder = session.data.folder if session.data else None
        result = kind.run(config, model, folder, device=session.device, threads=session.threads)
        known: dict[str, Any] = {"suite": key, "artifact": model.digest}
        for measurement in result.measurements:
            whose = measurement.who if measurement.who.startswith(BASELINE) else who
            full = replace(measurement, name=f"{name}/{measurement.name}", seed=seed, who=whose)
            session.emit("measured", sync=False, **place, **known, measurement=full.to_json())
        for prompt, text in result.samples:
            session.emit("sample", once=True, sync=False, **place, **known, **more, prompt=prompt, text=text)
        meter.spend()
        meter.write()
        session.emit("evaluated", **place, **known, name=name)
        done = session.history.evaluations[key, model.digest]
    return [retold(measurement, who, seed) for measurement in done]


def _packable(session: Session, plan: Plan, who: str) -> bool:
    party, _, name = who.partition(":")
    return party != "baseline" or plan.baselines[name].kind in session.catalogue.packable_baselines()


def declared_by_suites(session: Session, plan: Plan) -> dict[str, Emitted]:
    """{full metric name: what it is} of every suite of the plan."""
    declared: dict[str, Emitted] = {}
    for name, suite in plan.suites.items():
        kind = session.catalogue.suite(suite.kind)
        emitted = kind.emits(kind.config_model().model_validate(settings_of(suite)))
        sources = [f"{name}/{codec}" for codec in suite.through] or [name]
        declared |= {f"{source}/{metric}": one for source in sources for metric, one in emitted.items()}
    return declared


def settings_of(suite: Suite) -> dict[str, Any]:
    """The suite kind's own settings, as written."""
    return suite.model_dump(exclude={"kind", "through"}, exclude_unset=True)


def retold(measurement: Measurement, who: str, seed: int) -> Measurement:
    """As the party's own; what is a rival's that the suite brings stays the rival's."""
    return replace(measurement, who=who if measurement.who == JUDGED else measurement.who, seed=seed)
