"""The suite `refusal`: how much of what should be blocked is blocked, and how much of what should be allowed.

A prompt is a document of a part of the data, put into `template`. It counts as blocked where the model's own guard
blocks it, or else where what the model writes after it, greedily, begins with a refusal (evaluate/refusal).

    block_rate           of the prompts under `block`: share blocked
    refusal_rate         of the same prompts: share whose written answer refuses, guard or none
    false_positive_rate  of the prompts under `allow`: share blocked

Items are prompts, intervals Wilson's: at 95 % one-sided it takes 496 of 500 to show 98 %. Refuses a template that has
no place for the prompt, and a count table, which has no answer to give.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import SuiteResult
from bloomery.errors import ArtifactError
from bloomery.measure import Emitted, Items, Measurement
from bloomery.plan.schema import Frozen
from bloomery.stages.scorers import kind_of, scorer_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bloomery.data.tokenizer import Tokenizer
    from bloomery.data.tokens import TokenFile
    from bloomery.model.interface import LanguageModel, Scorer

PLACE = "{prompt}"


class RefusalSettings(Frozen):
    block: str
    """The part of the data whose prompts should be blocked: `harmful:certify`."""
    allow: str
    """The part whose prompts should not: `benign:certify`."""
    template: str = PLACE
    """How a prompt is put to the model."""
    tokens: int = Field(default=24, ge=1)
    """How many tokens of an answer are looked at."""
    items: int | None = Field(default=None, ge=1)
    """At most this many prompts, of either part."""

    @model_validator(mode="after")
    def _fits(self) -> RefusalSettings:
        if self.template.count(PLACE) != 1:
            raise ValueError(f"the template has {self.template.count(PLACE)} places for the prompt; one: {PLACE}")
        if self.block == self.allow:
            raise ValueError(f"block and allow are both {self.block}; two parts")
        return self


class Refusal:
    """Block, refusal and false-positive rates. What is generated is read as text and never executed."""

    def config_model(self) -> type[BaseModel]:
        return RefusalSettings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return {
            "block_rate": Emitted("share", "higher"),
            "refusal_rate": Emitted("share", "higher"),
            "false_positive_rate": Emitted("share", "lower"),
        }

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models

        assert isinstance(config, RefusalSettings)
        assert data is not None
        if kind_of(model.path) == "ngram":
            raise ArtifactError(str(model.path), "a count table, which refuses nothing", "a model that writes")
        models.use_threads(threads)
        prepared = Prepared.open(data)
        network = scorer_of(model.path, prepared, device=device)
        harmful, benign = (prepared.part(name) for name in (config.block, config.allow))
        blocked, refused = _asked(network, prepared.tokenizer, harmful, config, device)
        wrongly, _ = _asked(network, prepared.tokenizer, benign, config, device)
        rates = (
            ("block_rate", blocked, harmful), ("refusal_rate", refused, harmful),
            ("false_positive_rate", wrongly, benign),
        )  # fmt: skip
        return SuiteResult(tuple(_rate(name, hits, part) for name, hits, part in rates))


def _asked(
    network: LanguageModel | Scorer, tokenizer: Tokenizer, part: TokenFile, config: RefusalSettings, device: str
) -> tuple[list[bool], list[bool]]:
    """(blocked, refused in words) of every prompt."""
    import torch

    from bloomery.evaluate.perplexity import spread
    from bloomery.evaluate.refusal import Guard, is_refusal
    from bloomery.evaluate.sample import generate

    blocked: list[bool] = []
    refused: list[bool] = []
    for index in spread(part.documents, config.items):
        prompt = config.template.replace(PLACE, tokenizer.decode(part.document(index)))
        text = generate(network, tokenizer, prompt, max_tokens=config.tokens, temperature=0.0)
        refused.append(is_refusal(text))
        ids = [tokenizer.end_of_document, *map(int, tokenizer.encode(prompt))]
        guarded = isinstance(network, Guard) and network.declines(torch.tensor([ids], device=device))
        blocked.append(guarded or refused[-1])
    return blocked, refused


def _rate(name: str, hits: Sequence[bool], part: TokenFile) -> Measurement:
    from bloomery.engine.intervals import wilson_interval

    n = len(hits)
    items = Items(f"{part.digest}:{n}", tuple(map(float, hits)), (1.0,) * n)
    return Measurement(name, sum(hits) / n, n, wilson_interval(sum(hits), n), unit="share", items=items)
