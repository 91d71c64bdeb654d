"""evaluate: trains nothing; runs its suites on the model that comes in and hands it on. The gate does the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.measure import Emitted
from bloomery.plan.schema import Frozen


class Settings(Frozen):
    """It has none."""


class Evaluate:
    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        return ()

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return ""

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        return Cost()

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        return iter(())

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        return StageResult()
