"""The suite `calibration`: calibration errors, Brier score and log loss, as the model is and at a fitted temperature;
and what its confidence is worth in choosing which answers to keep: `aurc`, and `ranking`, its distance from a blind
choice, below zero where the surest answers are the better ones.

`fit` names the part that the temperature is fitted on; without one, either half of the judged documents is judged at
the temperature of the other. Every metric counts documents, with its interval over them (evaluate/calibration).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import SuiteResult
from bloomery.measure import Emitted, Measurement
from bloomery.plan.schema import Frozen

if TYPE_CHECKING:
    from bloomery.evaluate.calibration import Predictions


class CalibrationSettings(Frozen):
    data: str
    """A part of the data: `corpus:test`."""
    fit: str | None = None
    """Another part, to fit the temperature on."""
    bins: int = Field(default=15, ge=2)
    context: int = Field(default=128, ge=2)
    items: int | None = Field(default=None, ge=1)
    """At most this many documents, of either part."""
    confidence: Literal["probability", "own"] = "probability"
    """own: the model's own answer and confidence, where it has them beside its probabilities; else the likeliest
    token's. Brier score, log loss and all at a fitted temperature are of the probabilities in any case."""

    @model_validator(mode="after")
    def _apart(self) -> CalibrationSettings:
        if self.fit == self.data:
            raise ValueError(
                f"fit: {self.fit} is the part that is judged; another one, or none: halves judge each other"
            )
        return self


METRICS = {
    "ece": Emitted("", "lower"),
    "ece_equal_mass": Emitted("", "lower"),
    "brier": Emitted("", "lower"),
    "nll": Emitted("nats_per_token", "lower"),
    "accuracy": Emitted("", "higher"),
    "aurc": Emitted("", "lower"),
    "ranking": Emitted("", "lower"),
}
UNSCALED = ("accuracy", "aurc", "ranking")
"""As the model is; under `scaled/` at the fitted temperature, which changes no accuracy."""


class Calibration:
    """Whether a model's probabilities come true."""

    def config_model(self) -> type[BaseModel]:
        return CalibrationSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        scaled = {f"scaled/{name}": one for name, one in METRICS.items() if name not in UNSCALED}
        return {**METRICS, **scaled, "temperature": Emitted()}

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.calibration import best_temperature, best_temperatures, cross_fitted, heat_curve, predict
        from bloomery.evaluate.resample import bootstrap_interval
        from bloomery.stages import models
        from bloomery.stages.scorers import scorer_of

        assert isinstance(config, CalibrationSettings)
        assert data is not None
        models.use_threads(threads)
        prepared = Prepared.open(data)
        scorer = scorer_of(model.path, prepared, device=device)
        part = prepared.part(config.data)
        how: dict[str, Any] = {"context": config.context, "device": device, "max_documents": config.items}
        plain = predict(scorer, part, own=config.confidence == "own", **how)
        curve = heat_curve(scorer, prepared.part(config.fit) if config.fit else part, **how)
        heat = best_temperature(curve.sum(0))
        temperatures = [heat] * plain.documents if config.fit else cross_fitted(curve)
        scaled = predict(scorer, part, temperatures=temperatures, **how)
        spread = bootstrap_interval(curve, best_temperatures, draws=500)
        return SuiteResult(
            (
                *_measured(plain, config.bins, ""),
                *_measured(scaled, config.bins, "scaled/"),
                Measurement("temperature", heat, len(curve), spread),
            )
        )


def _measured(found: Predictions, bins: int, prefix: str) -> Iterator[Measurement]:
    from bloomery.engine.intervals import items_interval
    from bloomery.evaluate.calibration import areas, ece

    for name, equal_mass in (("ece", False), ("ece_equal_mass", True)):
        value, interval = ece(found, bins, equal_mass=equal_mass)
        yield Measurement(f"{prefix}{name}", value, found.documents, interval)
    kept = [("brier", found.brier), ("nll", found.nats)]
    if not prefix:
        for name, (value, interval) in zip(("aurc", "ranking"), areas(found), strict=True):
            yield Measurement(name, value, found.documents, interval)
        kept.append(("accuracy", found.came))
    for name, values in kept:
        items = found.items(values)
        value = float(values.mean())
        unit = METRICS[name].unit
        yield Measurement(f"{prefix}{name}", value, found.documents, items_interval([items]), unit=unit, items=items)
