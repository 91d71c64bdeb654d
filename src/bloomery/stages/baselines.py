"""Baselines: rivals fitted on exactly the tokens that the judged model has read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Field

from bloomery.engine.artifact import write_atomically
from bloomery.engine.stage import StageContext, StageResult
from bloomery.plan.schema import Frozen

NGRAM_CARD = "ngram.json"
"""Marks a model folder as an n-gram table; suites open it as a Scorer."""


class NGramSettings(Frozen):
    order: int = Field(default=2, ge=1, le=5)


class NGramBaseline:
    """An interpolated n-gram table (evaluate.ngram)."""

    def config_model(self) -> type[BaseModel]:
        return NGramSettings

    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.ngram import NGram

        assert isinstance(config, NGramSettings)
        assert ctx.data is not None
        end = Prepared.open(ctx.data).tokenizer.end_of_document
        table = NGram.fit(tokens, order=config.order, vocab=ctx.vocab, end_of_document=end)
        folder = ctx.workdir / "model"
        folder.mkdir(parents=True, exist_ok=True)
        table.save(folder)
        write_atomically(folder / NGRAM_CARD, json.dumps({"order": config.order, "vocab": ctx.vocab}).encode())
        return StageResult(outputs={"model": folder})
