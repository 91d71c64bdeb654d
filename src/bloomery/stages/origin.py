"""The suite `origin`: which file, or category, passages are from, by the features of a model that tells any.

`accuracy` is that of the model's features; `unigram` and `shuffled` of the controls, on the same passages; the
differences `over_unigram` and `over_shuffled` are taken passage by passage, so that a gate can ask for them. A model
without features is not measured, so that a gate which asks for it says *missing*. See evaluate/origin.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import SuiteResult
from bloomery.measure import Emitted, Items, Measurement
from bloomery.plan.schema import Frozen


class OriginSettings(Frozen):
    data: str
    """A part with documents of several sources: `corpus:test`."""
    by: Literal["file", "category"] = "file"
    """file: what stands before `#` in a document's name."""
    tokens: int = Field(default=256, ge=1)
    """Of a passage."""
    passages: int = Field(default=100, ge=4)
    """Of each source, at most; the first half of them is fitted on."""


class Origin:
    def config_model(self) -> type[BaseModel]:
        return OriginSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        higher = Emitted("share", "higher")
        difference = Emitted("", "higher")
        return {
            "accuracy": higher, "unigram": Emitted("share"), "shuffled": Emitted(), "chance": Emitted("share"),
            "over_unigram": difference, "over_shuffled": difference,
        }  # fmt: skip

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.engine.intervals import items_interval
        from bloomery.evaluate.origin import passages, told
        from bloomery.model.interface import Featuring
        from bloomery.stages import models
        from bloomery.stages.scorers import scorer_of

        assert isinstance(config, OriginSettings)
        assert data is not None
        models.use_threads(threads)
        prepared = Prepared.open(data)
        scorer, part = scorer_of(model.path, prepared, device=device), prepared.part(config.data)
        if not isinstance(scorer, Featuring):
            return SuiteResult(())
        key = f"{part.digest}:{config.by}:{config.tokens}:{config.passages}"
        found = told(scorer, passages(part, config.by, config.tokens, config.passages), key)
        values = {
            "accuracy": found.own, "unigram": found.unigram, "shuffled": found.shuffled,
            "over_unigram": found.own - found.unigram, "over_shuffled": found.own - found.shuffled,
        }  # fmt: skip
        measured = [Measurement("chance", 1 / found.sources, unit="share")]
        for name, each in values.items():
            items = Items(key, tuple(each.tolist()), (1.0,) * len(each))
            unit = "share" if name in ("accuracy", "unigram") else ""
            measured.append(
                Measurement(name, float(each.mean()), len(each), items_interval([items]), unit=unit, items=items)
            )
        return SuiteResult(tuple(measured))
