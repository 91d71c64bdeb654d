"""Suites: what judges an artifact, whoever made it. Here the two that need nothing but a model and text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field

from bloomery.engine.artifact import Artifact
from bloomery.engine.intervals import LARGEST_EXPONENT
from bloomery.engine.stage import SuiteResult
from bloomery.errors import PlanError
from bloomery.measure import Emitted, Interval, Items, Measurement
from bloomery.plan.schema import Frozen
from bloomery.stages.caches import TUNING_SPLITS, Cacheable
from bloomery.stages.scorers import scorer_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bloomery.data.prepared import Prepared
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.data.tokens import TokenFile


class PerplexitySettings(Cacheable):
    context: int = Field(default=128, ge=2)
    items: int | None = Field(default=None, ge=1)
    """At most this many documents."""
    normalised: float | None = Field(default=None, gt=0)
    """Refuse a scorer whose probabilities do not sum to one within this: 1e-9."""
    bootstrap: Literal["document"] | None = None
    """document: the interval shown is the percentile bootstrap's over documents, instead of the linearised one. Gates
    compare item by item either way."""


class Perplexity:
    """Mean loss over every token of held-out documents; the interval is over documents."""

    def config_model(self) -> type[BaseModel]:
        return PerplexitySettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {
            "loss": Emitted("nats_per_token", "lower"),
            "perplexity": Emitted("", "lower"),
            "bits_per_byte": Emitted("", "lower"),
        }

    def tunes_on(self, config: BaseModel, splits: Mapping[str, Sequence[str] | None]) -> str | None:
        """Where the weights of caches are found (plan.catalogue.Tuning)."""
        assert isinstance(config, PerplexitySettings)
        if (part := config.tuned_on(splits)) is None and config.caches is not False:
            found = f"no split of {config.data.partition(':')[0]} is left to find the weights of caches on"
            raise PlanError("tune_on", found, f"one of {', '.join(TUNING_SPLITS)} that is not judged", "tune_on: PART")
        return part

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.engine.intervals import items_interval
        from bloomery.evaluate.perplexity import perplexity
        from bloomery.stages import models

        assert isinstance(config, PerplexitySettings)
        assert data is not None
        models.use_threads(threads)
        prepared = Prepared.open(data)
        scorer, part = scorer_of(model.path, prepared, device=device), prepared.part(config.data)
        caches = _caches(scorer, config, prepared, device)
        if config.normalised is not None:
            from bloomery.evaluate.caches import Beside
            from bloomery.evaluate.normalised import check_normalised

            whole = scorer if caches is None else Beside(scorer, caches)
            check_normalised(whole, part, config.normalised, device=device)
        how: dict[str, Any] = {"context": config.context, "device": device, "max_documents": config.items}
        if caches is None:
            result = perplexity(scorer, part, **how)
        else:
            from bloomery.evaluate.cached_loss import cached_perplexity

            result = cached_perplexity(scorer, caches, part, **how)
        items, count = result.items(), len(result.loss_sums)
        interval = items_interval([items]) if count > 1 else None
        if config.bootstrap == "document":
            import numpy as np

            from bloomery.evaluate.resample import bootstrap_interval, ratio

            interval = bootstrap_interval(np.array([items.sums, items.weights]).T, ratio)
        return SuiteResult(
            (
                Measurement("loss", result.loss, count, interval, unit="nats_per_token", items=items),
                Measurement(
                    "perplexity", result.perplexity, count, _exponential(interval), items=result.items_of_perplexity()
                ),
                Measurement("bits_per_byte", result.bits_per_byte, count, items=result.items_per_byte()),
            )
        )


def _caches(scorer: Any, config: PerplexitySettings, prepared: Prepared, device: str) -> Any:
    """The Caches that the settings ask for, with weights of the scorer's own; None where it has caches already."""
    from bloomery.evaluate.cached_loss import fit_caches
    from bloomery.evaluate.ngram_cache import Cached

    part = Perplexity().tunes_on(config, {name: prepared.splits(name) for name in prepared.sets()})
    if config.wanted is None or part is None or isinstance(scorer, Cached):
        return None
    return fit_caches(
        scorer, prepared.part(part), windows=config.wanted.windows, longest=config.wanted.longest_history,
        context=config.context, device=device, max_documents=config.items,
    )  # fmt: skip


def _exponential(interval: Interval | None) -> Interval | None:
    """exp rises, so it takes an interval of the loss to one of the perplexity, of the same level."""
    if interval is None or interval.high > LARGEST_EXPONENT:
        return None
    return Interval(math.exp(interval.low), math.exp(interval.high), interval.level)


DOCSTRING = re.compile(r'^def \w+\([^)]*\):\n    """\w+ \w+', re.MULTILINE)
OPENING_CHARACTERS = 40
DISTINCT, REPEATED, INDEPENDENT_ORDER = (2, 3), 4, 3
"""Words of the n-grams that are to differ, and of those that are not to come again; the order of the other model."""


class GenerationSettings(Frozen):
    data: str = "corpus:val"
    """Where prompts are taken from: its functions up to the second word of their docstring, else how it opens."""
    prompts: int = Field(default=3, ge=1)
    tokens: int = Field(default=60, ge=1)
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)
    under: str | None = None
    """A part, `corpus:train`: what is written is scored by a Kneser-Ney table of order 3 of its counts, an independent
    model. Varied nonsense is unlikely under it, and what repeats itself may be likely: read both."""


class Generation:
    """Samples for the report, how varied they are (evaluate/variety.py), and how likely to a model that is not theirs.
    Nothing generated is ever executed."""

    def config_model(self) -> type[BaseModel]:
        return GenerationSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, GenerationSettings)
        variety = {f"distinct_{n}": Emitted("", "higher") for n in DISTINCT}
        independent = {"independent_loss": Emitted("nats_per_token", "lower")} if config.under else {}
        return {"distinct_share": Emitted("", "higher"), **variety, "repetition": Emitted("", "lower"), **independent}

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.sample import generate
        from bloomery.evaluate.variety import distinct, repetition
        from bloomery.stages import models

        assert isinstance(config, GenerationSettings)
        assert data is not None
        models.use_threads(threads)
        prepared = Prepared.open(data)
        tokenizer = prepared.tokenizer
        part = prepared.part(config.data)
        prompts = _prompts(part, tokenizer, config.prompts)
        network = scorer_of(model.path, prepared, device=device)
        samples = tuple(
            (
                prompt,
                generate(
                    network, tokenizer, prompt, max_tokens=config.tokens, temperature=config.temperature,
                    top_p=config.top_p, seed=number,
                ),
            )
            for number, prompt in enumerate(prompts)
        )  # fmt: skip
        texts = [text for _, text in samples]
        measured = [Measurement("distinct_share", *distinct(texts, 1))]
        measured += [Measurement(f"distinct_{n}", *distinct(texts, n)) for n in DISTINCT]
        measured.append(Measurement("repetition", *repetition(texts, REPEATED)))
        if config.under is not None:
            measured += _independent(samples, prepared, config.under)
        return SuiteResult(tuple(measured), samples)


def _independent(samples: Sequence[tuple[str, str]], prepared: Prepared, part: str) -> Iterator[Measurement]:
    """Nats per token of what was written after its prompt, under a table of counts of the part; nothing of nothing."""
    import numpy as np

    from bloomery.engine.intervals import items_interval
    from bloomery.evaluate.ngram import NGram

    text, end = np.asarray(prepared.part(part).tokens, dtype=np.int64), prepared.tokenizer.end_of_document
    stream = np.concatenate(([end], text))
    table = NGram.fit([stream], order=INDEPENDENT_ORDER, vocab=prepared.vocab, end_of_document=end)
    losses: list[NDArray[np.float64]] = []
    for prompt, written in samples:
        both = [end, *prepared.tokenizer.encode(prompt), *(own := prepared.tokenizer.encode(written))]
        losses.append(-table.document_logprobs(np.array(both, dtype=np.int64))[len(both) - 1 - len(own) :])
    kept = [each for each in losses if len(each)]
    if not kept:
        return
    sums, sizes = (tuple(float(of(each)) for each in kept) for of in (np.sum, len))
    interval = items_interval([Items(part, sums, sizes)]) if len(kept) > 1 else None
    yield Measurement("independent_loss", sum(sums) / sum(sizes), len(kept), interval, unit="nats_per_token")


def _prompts(part: TokenFile, tokenizer: Tokenizer, count: int) -> list[str]:
    """`def name(...):` and the opening of its docstring, one a document; of text without any, how documents open."""
    found: list[str] = []
    openings: list[str] = []
    for start, end in pairwise(part.starts):
        text = tokenizer.decode(part.tokens[int(start) : int(end)])
        docstring = DOCSTRING.search(text)
        if docstring:
            found.append(docstring[0])
        elif len(openings) < count:
            openings.append(" ".join(text[:OPENING_CHARACTERS].split(" ")[:-1]) or text[:OPENING_CHARACTERS])
        if len(found) == count:
            break
    return (found + openings)[:count]
