"""Baselines: rivals fitted on exactly the tokens that the judged model has read.

What is read again in a later epoch counts once: it is no more evidence, and doubled counts would spoil the discounts.
Order, cutoffs and the weights of caches may be chosen on a part of their own (`tune_on`), which no suite may judge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.artifact import write_atomically
from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.errors import PlanError
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Bytes
from bloomery.stages.caches import Cacheable, Caches
from bloomery.stages.looking import Looking, look, measure

if TYPE_CHECKING:
    from bloomery.data.mix import Batch
    from bloomery.data.prepared import Prepared
    from bloomery.evaluate.perplexity import DocumentScorer

COUNTED_PER_SECOND = 5e6
"""Tokens times orders that one core counts. On the safe side: 1.2 to 1.9M tokens/s at order 5 were measured. Tuning and
weights, which score a held-out part, are not in it."""
BYTES_PER_COUNTED = 40
"""Of memory, for every token that is held and order."""
PAIRS_AT_ONCE = 1 << 20
"""ngram_counts.PAIRS_AT_ONCE, which loads torch."""

HIGHEST_TUNED = 7
"""ngram.HIGHEST_ORDER, which loads torch."""

NGRAM_CARD = "ngram.json"
"""Marks a model folder as an n-gram table; suites open it as a Scorer, and a cascade lets it write."""


class NGramSettings(Frozen):
    order: int = Field(default=2, ge=1, le=5)


class NGramBaseline:
    """An interpolated n-gram table (evaluate.ngram) of the distinct rows."""

    packable = False

    def config_model(self) -> type[BaseModel]:
        return NGramSettings

    def cost(self, config: BaseModel, *, tokens: int, built: Cost, vocab: int) -> Cost:
        assert isinstance(config, NGramSettings)
        return _counting(tokens, config.order, vocab)

    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.ngram import NGram

        assert isinstance(config, NGramSettings)
        assert ctx.data is not None
        prepared = Prepared.open(ctx.data)
        tokenizer = prepared.tokenizer
        end = tokenizer.end_of_document
        reading = _Reading(tokens)
        table = NGram.fit(distinct(reading), order=config.order, vocab=ctx.vocab, end_of_document=end)
        reading.told(ctx, table, prepared)
        folder = ctx.workdir / "model"
        folder.mkdir(parents=True, exist_ok=True)
        table.save(folder)
        tokenizer.save(folder / "tokenizer")
        write_atomically(folder / NGRAM_CARD, json.dumps({"order": config.order, "vocab": ctx.vocab}).encode())
        return StageResult(outputs={"model": folder})


class KneserNeySettings(Frozen):
    order: Annotated[int, Field(ge=2, le=7)] | Literal["tuned"] = 5
    """tuned: the best of 2 to 7."""
    cutoffs: tuple[Annotated[int, Field(ge=0)], ...] | Literal["tuned"] = ()
    """For each order from one on, the last holding for all above: an n-gram read at most so often is left out, and its
    probability goes to the shorter histories. `[0, 0, 1]` leaves out what was read once, from trigrams on."""
    caches: Caches | Literal["same"] | None = None
    """`{}` for two windows of 500 and 5000 tokens; the weights are found on `tune_on`. same: those that a suite of the
    plan gives to the judged model, with weights of its own from the same part."""
    tune_on: str | None = None
    """The part that order, cutoffs and the caches' weights are chosen on: `corpus:dev`."""
    bytes: Bytes | Literal["same"] | None = None
    """What is tuned keeps to this size, in memory as `tally` counts it. same: to the judged model's."""

    @property
    def tuned(self) -> bool:
        return "tuned" in (self.order, self.cutoffs)

    @model_validator(mode="after")
    def _fits(self) -> KneserNeySettings:
        if self.cutoffs != "tuned" and [0, *self.cutoffs[1:]] != sorted(self.cutoffs or (0,)):
            raise ValueError("cutoffs begin with 0, for single tokens, and never fall")
        if (self.tuned or isinstance(self.caches, Caches)) and self.tune_on is None:
            raise ValueError("what is tuned, and the weights of caches, need a part of their own: tune_on: corpus:dev")
        if self.tune_on is not None and not (self.tuned or self.caches):
            raise ValueError("`tune_on` with nothing to choose: order: tuned, cutoffs: tuned or caches: {}")
        if self.bytes is not None and not self.tuned:
            raise ValueError("`bytes` limits what is tuned: order: tuned or cutoffs: tuned")
        return self

    def followed(
        self, suites: Sequence[BaseModel], splits: Mapping[str, Sequence[str] | None], size: float | None
    ) -> KneserNeySettings:
        """With what `same` stands for (plan.catalogue.Following)."""
        found: dict[str, Any] = {}
        if self.caches == "same":
            given = [one for one in suites if isinstance(one, Cacheable) and one.wanted is not None]
            if len({(one.wanted, one.tuned_on(splits)) for one in given}) != 1:
                raise PlanError("caches", "same", f"one suite with caches to be the same as; there are {len(given)}",
                                "a suite with `caches: true`, or caches: {} with tune_on: PART")  # fmt: skip
            found = {"caches": given[0].wanted, "tune_on": self.tune_on or given[0].tuned_on(splits)}
        if self.bytes == "same" and size is not None:
            found["bytes"] = int(size)
        return self.model_copy(update=found)


class KneserNeyBaseline:
    """Modified Kneser-Ney (evaluate.ngram) of the distinct rows, tuned and with caches where that is asked for."""

    packable = False

    def config_model(self) -> type[BaseModel]:
        return KneserNeySettings

    def cost(self, config: BaseModel, *, tokens: int, built: Cost, vocab: int) -> Cost:
        assert isinstance(config, KneserNeySettings)
        return _counting(tokens, HIGHEST_TUNED if config.order == "tuned" else config.order, vocab)

    def fit(self, config: BaseModel, tokens: Iterator[Any], ctx: StageContext) -> StageResult:
        import numpy as np

        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.ngram import HIGHEST_ORDER, NGram
        from bloomery.evaluate.ngram_cache import Cached
        from bloomery.evaluate.ngram_counts import Counts
        from bloomery.evaluate.ngram_tuning import LOWEST_ORDER, tune

        assert isinstance(config, KneserNeySettings)
        assert config.caches != "same"
        assert config.bytes != "same"
        assert ctx.data is not None
        prepared = Prepared.open(ctx.data)
        end = prepared.tokenizer.end_of_document
        orders = range(LOWEST_ORDER, HIGHEST_ORDER + 1) if config.order == "tuned" else (config.order,)
        reading = _Reading(tokens)
        counts = Counts.of(distinct(reading), order=max(orders), vocab=ctx.vocab, end_of_document=end)
        part = prepared.part(config.tune_on) if config.tune_on else None
        held_out = [] if part is None else [part.document(number) for number in range(part.documents)]
        documents = [np.concatenate(([end], document)).astype(np.int64) for document in held_out]
        cutoffs = None if config.cutoffs == "tuned" else config.cutoffs
        card: dict[str, Any] = {"vocab": ctx.vocab}
        if config.tuned:
            table, trials = tune(counts, documents, orders=orders, cutoffs=cutoffs, most_bytes=config.bytes)
            card |= {"trials": [asdict(one) for one in trials]}
            cutoffs = trials[0].cutoffs
        else:
            table = NGram.of(counts, cutoffs or ())
        model: NGram | Cached = table
        if config.caches is not None:
            longest = config.caches.longest_history
            model = Cached.fit(table, documents, windows=config.caches.windows, longest=longest)
        reading.told(ctx, model, prepared)
        folder = ctx.workdir / "model"
        model.save(folder)
        prepared.tokenizer.save(folder / "tokenizer")
        card |= {
            "order": table.order,
            "cutoffs": cutoffs,
            "entries": table.entries,
            "caches": config.caches is not None,
        }
        write_atomically(folder / NGRAM_CARD, json.dumps(card).encode())
        return StageResult(outputs={"model": folder}, tallies={"model": model.tally()})


def _counting(tokens: int, order: int, vocab: int) -> Cost:
    """Of a table: no FLOPs to speak of, so the seconds themselves; what it reads is no training. Up to pairs only the
    distinct ones are held, of which there are vocab^order at most, and a part of the tokens; above, all tokens are."""
    held = tokens if order > 2 else min(tokens, vocab**order + PAIRS_AT_ONCE)
    return Cost(seconds=tokens * order / COUNTED_PER_SECOND, weight_bytes=BYTES_PER_COUNTED * held * order)


class _Reading:
    """What a table is fitted on, and how fast that goes, tuning and weights included."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches, self._tokens, self._began = batches, 0, time.monotonic()

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self._tokens += batch.tokens.numel()
            yield batch

    def told(self, ctx: StageContext, model: DocumentScorer, prepared: Prepared) -> None:
        """train/tokens_per_second; and val/*, where the stage that built the judged model looks at held-out text."""
        seconds = max(time.monotonic() - self._began, 1e-9)
        ctx.measure("train/tokens_per_second", self._tokens / seconds, unit="per_second")
        if isinstance(ctx.judged, Looking):
            measure(ctx, look(model, prepared, ctx.judged))


def distinct(batches: Iterable[Batch]) -> Iterator[Batch]:
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
