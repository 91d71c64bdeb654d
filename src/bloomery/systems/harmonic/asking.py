"""What the stages that make data have in common: they ask the model that comes in, learn nothing, and hand on examples.

`Asking` is such a kind, made of its settings, its metrics and what it does. A `Diary` is its resume state: a row for
every batch of questions, appended, so that a killed stage asks none of them again and ends with the same examples; a
row that was cut short counts as not written. `writer_of` is whoever answers: a network, or a table of counts.

Prices are of the tokens that a model reads and writes, PROMPT and ANSWER of them a question.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.errors import ArtifactError
from bloomery.measure import Emitted

if TYPE_CHECKING:
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.evaluate.sampling import Sampling

PROMPT, ANSWER = 60, 20
SLACK = 8
"""Tokens that an answer may have beyond the longest reference that is asked for beside it (as stages/gauntlet.py)."""
NO_INPUTS: Mapping[str, bool] = {}


@dataclass(frozen=True, slots=True)
class Asking:
    """A Stage. `asked`: questions that are answered at most, of settings. `reads`: the parts that it makes data of."""

    settings: type[BaseModel]
    metrics: Mapping[str, Emitted]
    reads: Callable[[Any], tuple[str, ...]]
    asked: Callable[[Any], int]
    ask: Callable[[StageContext, Any], StageResult]
    takes: Mapping[str, bool] = field(default_factory=lambda: NO_INPUTS)
    """Further inputs: {name: required}."""

    def config_model(self) -> type[BaseModel]:
        return self.settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        return self.metrics

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"data": "data"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True, **self.takes}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        """What its examples are made of: whoever trains on them learns from that part."""
        return tuple(part if ":" in part else f"{part}:train" for part in self.reads(config))

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return "it has no state to go on from"

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        if model is None:
            return Cost()
        from bloomery.stages.settings import architecture

        shape = architecture(model)
        forward = shape.tally(vocab).flops_per_token + shape.attention_flops_per_token(PROMPT + ANSWER)
        tally = shape.tally(vocab)
        return Cost(flops=forward * self.asked(config) * (PROMPT + ANSWER), weight_bytes=4.0 * tally.stored)

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        return iter(())

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        return self.ask(ctx, config)


class Diary:
    """Rows that JSON can hold, in a file of a cell's checkpoint. Raises ArtifactError where a whole row is damaged."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "rows.jsonl"
        self.rows: list[Any] = []
        if not self._file.exists():
            folder.mkdir(parents=True, exist_ok=True)
            return
        whole = 0
        for number, line in enumerate(self._file.read_bytes().splitlines(keepends=True), start=1):
            if not line.endswith(b"\n"):
                break
            try:
                self.rows.append(json.loads(line))
            except ValueError:
                place = f"{self._file}:{number}"
                hint = "delete this file: the stage then asks everything again"
                raise ArtifactError(place, "damaged", "a row of JSON, as it was written", hint) from None
            whole += len(line)
        os.truncate(self._file, whole)

    def add(self, row: Any) -> None:
        with self._file.open("ab") as stream:
            stream.write(json.dumps(row).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        self.rows.append(row)


Writer = Callable[[Sequence[str], "Sequence[Sampling]"], list[str]]
"""Answers to prompts, in their order."""


def writer_of(folder: Path, tokenizer: Tokenizer, device: str) -> Writer:
    """Raises ArtifactError where the folder holds no model, or one of another vocabulary. A table of counts writes its
    likeliest tokens, whatever the sampling."""
    from bloomery.evaluate.several import Answering
    from bloomery.model.interface import LanguageModel, Streaming
    from bloomery.stages import models
    from bloomery.stages.gauntlet import likeliest
    from bloomery.stages.scorers import open_scorer

    models.check_tokenizer(folder, tokenizer)
    model = open_scorer(folder, device=device)
    if isinstance(model, Streaming):
        return lambda prompts, samplings: [
            likeliest(model, tokenizer, prompt, sampling.max_tokens)
            for prompt, sampling in zip(prompts, samplings, strict=True)
        ]
    assert isinstance(model, LanguageModel)
    return Answering(model, tokenizer)
