"""Suites: what judges an artifact, whoever made it. Here the two that need nothing but a model and text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import SuiteResult
from bloomery.measure import Emitted, Interval, Measurement
from bloomery.plan.schema import Frozen
from bloomery.stages.scorers import open_scorer, scorer_of

if TYPE_CHECKING:
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.data.tokens import TokenFile


class PerplexitySettings(Frozen):
    data: str
    """A part of the data: `corpus:val`."""
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
        if config.normalised is not None:
            from bloomery.evaluate.normalised import check_normalised

            check_normalised(scorer, part, config.normalised, device=device)
        result = perplexity(scorer, part, context=config.context, device=device, max_documents=config.items)
        items, count = result.items(), len(result.loss_sums)
        interval = items_interval([items]) if count > 1 else None
        if config.bootstrap == "document":
            import numpy as np

            from bloomery.evaluate.resample import bootstrap_interval, ratio

            interval = bootstrap_interval(np.array([items.sums, items.weights]).T, ratio)
        return SuiteResult(
            (
                Measurement("loss", result.loss, count, interval, unit="nats_per_token", items=items),
                Measurement("perplexity", result.perplexity, count, _exponential(interval)),
                Measurement("bits_per_byte", result.bits_per_byte, count, items=result.items_per_byte()),
            )
        )


def _exponential(interval: Interval | None) -> Interval | None:
    """exp rises, so it takes an interval of the loss to one of the perplexity, of the same level."""
    if interval is None or interval.high > LARGEST_EXPONENT:
        return None
    return Interval(math.exp(interval.low), math.exp(interval.high), interval.level)


LARGEST_EXPONENT = 700
"""Nats beyond which a perplexity is no number."""

DOCSTRING = re.compile(r'^def \w+\([^)]*\):\n    """\w+ \w+', re.MULTILINE)
OPENING_CHARACTERS = 40


class GenerationSettings(Frozen):
    data: str = "corpus:val"
    """Where prompts are taken from: its functions up to the second word of their docstring, else how it opens."""
    prompts: int = Field(default=3, ge=1)
    tokens: int = Field(default=60, ge=1)
    temperature: float = Field(default=0.6, ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)


class Generation:
    """Samples for the report, and how varied they are. Nothing generated is ever executed."""

    def config_model(self) -> type[BaseModel]:
        return GenerationSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {"distinct_share": Emitted("", "higher")}

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.sample import generate
        from bloomery.stages import models

        assert isinstance(config, GenerationSettings)
        assert data is not None
        models.use_threads(threads)
        prepared = Prepared.open(data)
        tokenizer = prepared.tokenizer
        part = prepared.part(config.data)
        prompts = _prompts(part, tokenizer, config.prompts)
        network = open_scorer(model.path, device=device)
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
        words = [word for _, text in samples for word in text.split()]
        distinct = len(set(words)) / len(words) if words else 0.0
        return SuiteResult((Measurement("distinct_share", distinct, len(words)),), samples)


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
