"""What a look at held-out text measures: `val/*`, of a model that learns, of a memory that wakes, of a baseline beside
them. All of them look at the same documents, so that what they measure can be paired.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from bloomery.engine.stage import StageContext
from bloomery.measure import Emitted
from bloomery.stages.settings import Validation

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared
    from bloomery.evaluate.perplexity import DocumentScorer, PerplexityResult
    from bloomery.model.interface import Scorer

LOOKS = {
    "val/loss": Emitted("nats_per_token", "lower"),
    "val/perplexity": Emitted("", "lower"),
    "val/bits_per_byte": Emitted("", "lower"),
}


@runtime_checkable
class Looking(Protocol):
    """Settings of a stage that looks at held-out text."""

    @property
    def context(self) -> int: ...
    @property
    def validation(self) -> Validation: ...
    @property
    def validation_part(self) -> str: ...


def measure(ctx: StageContext, result: PerplexityResult, **at: Any) -> None:
    """at: step, tokens and share of a look on the way."""
    count = len(result.loss_sums)
    ctx.measure("val/loss", result.loss, n=count, unit=LOOKS["val/loss"].unit, items=result.items(), **at)
    ctx.measure("val/perplexity", result.perplexity, n=count, items=result.items_of_perplexity(), **at)
    ctx.measure("val/bits_per_byte", result.bits_per_byte, n=count, **at)


def look(scorer: Scorer | DocumentScorer, prepared: Prepared, settings: Looking) -> PerplexityResult:
    """One look as the stage of these settings takes it."""
    from bloomery.evaluate.perplexity import perplexity

    part = prepared.part(settings.validation_part)
    return perplexity(scorer, part, context=settings.context, max_documents=settings.validation.documents)
