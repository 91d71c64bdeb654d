"""Baselines: rivals fitted on exactly the tokens that the judged model has read.

What is read again in a later epoch counts once: it is no more evidence, and doubled counts would spoil the discounts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from bloomery.engine.artifact import write_atomically
from bloomery.engine.stage import StageContext, StageResult
from bloomery.plan.schema import Frozen

if TYPE_CHECKING:
    from bloomery.data.mix import Batch

NGRAM_CARD = "ngram.json"
"""Marks a model folder as an n-gram table; suites open it as a Scorer, and a cascade lets it write."""


class NGramSettings(Frozen):
    order: int = Field(default=2, ge=1, le=5)


class NGramBaseline:
    """An interpolated n-gram table (evaluate.ngram) of the distinct rows."""

    packable = False

    def config_model(self) -> type[BaseModel]:
        return NGramSettings

    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.ngram import NGram

        assert isinstance(config, NGramSettings)
        assert ctx.data is not None
        tokenizer = Prepared.open(ctx.data).tokenizer
        end = tokenizer.end_of_document
        table = NGram.fit(_distinct(tokens), order=config.order, vocab=ctx.vocab, end_of_document=end)
        folder = ctx.workdir / "model"
        folder.mkdir(parents=True, exist_ok=True)
        table.save(folder)
        tokenizer.save(folder / "tokenizer")
        write_atomically(folder / NGRAM_CARD, json.dumps({"order": config.order, "vocab": ctx.vocab}).encode())
        return StageResult(outputs={"model": folder})


def _distinct(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches without rows that came before, in whatever order and shift; rows of unknown origin stay."""
    from bloomery.data.mix import Batch

    seen: set[tuple[tuple[str, int], int, bool]] = set()
    for batch in batches:
        if batch.origins is None:
            yield batch
            continue
        fresh: list[int] = []
        for row, origin in enumerate(batch.origins):
            key = (origin, batch.tokens.shape[1], batch.mask is None)
            if key not in seen:
                seen.add(key)
                fresh.append(row)
        if fresh:
            mask = None if batch.mask is None else batch.mask[fresh]
            segments = None if batch.segments is None else batch.segments[fresh]
            yield Batch(batch.tokens[fresh], batch.targets[fresh], mask, segments)
