"""harmonic/cascade: the model, experts on packets of documents, a fallback and a table of counts behind one name.

    model, if sure -> the expert whose packet fits best, if sure -> the other experts -> fallback, if sure -> n-gram

Inputs `model` and `fallback`. The experts are made here, as harmonic/packets makes them (specialists.py, whose metrics
it tells too), and the table is counted on the same documents. Output `model`: a folder as stages/cascades.py writes it,
to be served, and judged by the suite `gauntlet`. Output `experts`, which is an input too: of an earlier cascade, where
packets are added to it; then only experts whose packets have grown are trained again.

`facts` names a set of examples by category: a prompt that is more like those of `factual` than like all others goes to
the nearest expert before anybody else (evaluate/cascade/routing.py); a compressed model is expected to lose rare facts
first (seed 8.3). `feedback: hebbian` lets votes move the routing weights (evaluate/cascade/feedback.py); without votes
the order is that of idf.

How sure a member is, is no probability of being right (evaluate/cascade/confidence.py): `confidence` is a choice, not a
calibration.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, ValidationError, model_validator

from bloomery.engine.stage import Cost, StageContext, StageResult
from bloomery.errors import DataError
from bloomery.measure import Emitted
from bloomery.plan.schema import Frozen
from bloomery.plan.units import Tokens
from bloomery.systems.harmonic import specialists

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared

WORK = "work"
FACTUAL = "factual"


class Experts(Frozen):
    packets: int = Field(default=16, ge=2, le=256)
    """How many experts, each with a packet of the documents."""
    routing: Literal["idf"] = "idf"
    data: str = "manuals"
    """The documents."""
    tokens: Tokens = 400_000
    """That the experts learn from together."""
    batch: int = Field(default=8, ge=1)
    context: int = Field(default=128, ge=2)
    split: str = "val"
    """Of the documents, for packets/*_loss."""
    added: str | None = None
    """A further part, whose documents are packets too: what came while an earlier cascade was served."""


class Last(Frozen):
    ngram: int = Field(default=5, ge=1, le=5)
    """Order of the table."""


class Settings(Frozen):
    experts: Experts = Experts()
    """Below."""
    last: Last = Last()
    """Below."""
    feedback: Literal["hebbian"] | None = "hebbian"
    """None: votes move nothing."""
    facts: str | None = None
    """Examples, by category. Without them every prompt goes to the model first."""
    confidence: float = Field(default=0.5, ge=0, le=1)
    """Of model and experts; a less sure answer falls through."""

    @model_validator(mode="after")
    def _has_a_step_for_each(self) -> Settings:
        try:
            self.training()
        except ValidationError as error:
            raise ValueError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
        return self

    def training(self) -> specialists.Settings:
        one = self.experts
        asked = {
            "added": one.added,
            "data": {one.data: 1.0},
            "specialists": one.packets,
            "tokens": one.tokens,
            "batch": one.batch,
        }
        return specialists.Settings.model_validate(
            {**asked, "context": one.context, "validation": {"split": one.split}}
        )


class Cascade:
    """The stage kind; what it learns, the specialists learn."""

    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        assert isinstance(config, Settings)
        return specialists.Packets().emits(config.training())

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"model": "model", "experts": "experts"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True, "fallback": True, "experts": False}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        facts = () if config.facts is None else (config.facts if ":" in config.facts else f"{config.facts}:train",)
        return (*specialists.Packets().fits_on(config.training()), *facts)

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return specialists.Packets().looks_at(config.training())

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return "it has no state to go on from"

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        assert isinstance(config, Settings)
        return specialists.Packets().cost(config.training(), system=system, vocab=vocab, model=model)

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        """What a cascade answers rests on what its members read; no baseline is fitted on that."""
        return iter(())

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        from bloomery.data.prepared import Prepared
        from bloomery.evaluate.cascade.card import Card
        from bloomery.stages.cascades import write_cascade

        assert isinstance(config, Settings)
        assert ctx.data is not None
        prepared, work = Prepared.open(ctx.data), ctx.workdir / WORK
        given = {name: artifact for name, artifact in ctx.inputs.items() if name != "fallback"}
        within = replace(ctx, workdir=work, checkpoint=ctx.checkpoint / "experts", inputs=given)
        made = specialists.Packets().run(within, config.training()).outputs["experts"]
        _count(within, prepared, config)
        experts = {f"expert{one}": made / "members" / str(one) for one in range(config.experts.packets)}
        sources = {
            "model": ctx.inputs["model"].path, **experts, "fallback": ctx.inputs["fallback"].path, "last": work / "last"
        }  # fmt: skip
        packets = {name: (made / "packets" / f"{place}.txt").read_text() for place, name in enumerate(experts)}
        members = [
            {
                "name": name, "model": name, "confidence": 0.0 if name == "fallback" else config.confidence,
                "packets": [name] if name in experts else [],
            }
            for name in sources
            if name != "last"
        ]  # fmt: skip
        card = Card.model_validate({
            "cascade": 1, "name": "cascade", "members": members, "last": {"ngram": config.last.ngram, "name": "last"},
            "routing": "learned" if config.feedback else config.experts.routing,
            "facts": None if config.facts is None else {"asked": "packets/facts.txt", "others": "packets/others.txt"},
        })  # fmt: skip
        if config.facts is not None:
            packets |= dict(zip(("facts", "others"), asked_of(prepared, config.facts), strict=True))
        write_cascade(ctx.workdir / "model", card, sources, packets, prepared.tokenizer)
        made.rename(ctx.workdir / "experts")
        shutil.rmtree(work)
        return StageResult(outputs={"model": ctx.workdir / "model", "experts": ctx.workdir / "experts"})


def asked_of(prepared: Prepared, part: str) -> tuple[str, str]:
    """The prompts of `factual` in a part, and those of all other categories, each once, a paragraph each.

    Raises DataError where there are none of the one or the other."""
    file, tokenizer = prepared.part(part), prepared.tokenizer
    found: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for at, category in enumerate(file.categories):
        prompt = tokenizer.decode(file.document(at)[: file.prompts[at]])
        found[category == FACTUAL][" ".join(prompt.split())] = None
    for facts, prompts in found.items():
        if not any(prompts):
            what = f"'{part}' has no prompts of {'' if facts else 'another category than '}'{FACTUAL}'"
            raise DataError("facts", what, "examples of both, so that facts can be told from the rest")
    return "\n\n".join(found[True]), "\n\n".join(found[False])


def _count(ctx: StageContext, prepared: Any, config: Settings) -> None:
    """The table of counts of the documents, in `last`."""
    from bloomery.engine.artifact import write_atomically
    from bloomery.evaluate.ngram import NGram
    from bloomery.stages.baselines import NGRAM_CARD

    part, end = prepared.part(config.experts.data), prepared.tokenizer.end_of_document
    table = NGram.fit([part.tokens], order=config.last.ngram, vocab=ctx.vocab, end_of_document=end)
    folder = ctx.workdir / "last"
    folder.mkdir(parents=True, exist_ok=True)
    table.save(folder)
    prepared.tokenizer.save(folder / "tokenizer")
    write_atomically(folder / NGRAM_CARD, json.dumps({"order": config.last.ngram, "vocab": ctx.vocab}).encode())
