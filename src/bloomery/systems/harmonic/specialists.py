"""harmonic/packets: K small models, each tuned on its packets of documents, behind an idf router (packets.py).

Input `model`, which every specialist begins as; `experts`, an earlier output, where packets are added to it: then only
those whose packets have grown are trained, from what they were, and the others are kept. Output `experts`: shelf.json,
members/0 to K - 1, packets/K.txt.

Judged on the second half of every held-out document; its first half routes it, and is not scored. In nats per token:

    packets/routed_loss      of the specialist that the router chooses
    packets/random_loss      of one chosen at random: the mean over all, so without a draw's noise
    packets/one_loss         of one model tuned on all packets for as many tokens as the specialists together
    packets/retrieval_loss   of `model` with the train document that holds most of the first half's rare words before it
                             (plain TF-IDF retrieval; a quarter of the context at most)
    packets/base_loss        of `model` alone
    packets/over_random, over_one, over_retrieval    routed minus that, paired by document

K specialists store K times the numbers of the one model; per token as many are active. Refuses fewer packets than
specialists, fewer steps than one for each, held-out documents without a second half, and `experts` of another number.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.stage import Cost, StageContext, StageResult, Stopped
from bloomery.errors import ArtifactError, DataError
from bloomery.measure import Emitted, Items
from bloomery.stages import training
from bloomery.stages.settings import Mixture, Training

if TYPE_CHECKING:
    from bloomery.data.corpus import Document
    from bloomery.data.prepared import Prepared
    from bloomery.data.tokens import TokenFile
    from bloomery.systems.harmonic.packets import Shelf

SHELF = "shelf.json"
CONTROLS = ("random", "one", "retrieval")
SHORTEST = 40
"""Characters of a held-out document, to have two halves."""


class Settings(Training):
    data: Mixture = Field(default_factory=lambda: {"manuals": 1.0})
    """The documents: one set."""
    specialists: int = Field(default=8, ge=2)
    """Each is trained for an equal share of `tokens`, and the control, one model of all packets, for all of them."""

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if len(self.data) != 1:
            raise ValueError(f"packets come from one set of documents, not from {len(self.data)}")
        if self.steps < self.specialists:
            raise ValueError(f"{self.steps} steps for {self.specialists} specialists; more tokens, or fewer of them")
        return self


class Packets:
    """The stage kind."""

    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        loss = Emitted("nats_per_token", "lower")
        losses = [f"{name}_loss" for name in ("routed", *CONTROLS, "base")]
        names = (*losses, *(f"over_{name}" for name in CONTROLS))
        counts = ("packets/specialists", "packets/held", "packets/trained")
        return {f"packets/{name}": loss for name in names} | dict.fromkeys(counts, Emitted())

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"experts": "experts"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True, "experts": False}

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return training.parts_read(config)

    def looks_at(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        return (config.validation_part,)

    def misfit(self, before: BaseModel, after: BaseModel) -> str:
        return "it has no state to go on from"

    def cost(self, config: BaseModel, *, system: str, vocab: int, model: Mapping[str, Any] | None = None) -> Cost:
        """The specialists, and the one model beside them."""
        from bloomery.stages.pricing import training_cost

        assert isinstance(config, Settings)
        if model is None:
            return Cost(tokens=2 * config.steps * config.batch * config.context)
        one = training_cost(config, model, vocab)
        disk = (config.specialists + 1) * one.disk_bytes
        return replace(one, tokens=2 * one.tokens, flops=2 * one.flops, disk_bytes=disk)

    def twin(
        self, config: BaseModel, *, system: str, vocab: int, match: str, tolerance: float
    ) -> Mapping[str, Any] | None:
        return None

    def tokens_read(self, ctx: StageContext, config: BaseModel) -> Iterator[Any]:
        """It hands on no model for a baseline to be compared with."""
        return iter(())

    def run(self, ctx: StageContext, config: BaseModel) -> StageResult:
        assert isinstance(config, Settings)
        return _Making.begin(ctx, config).make()


@dataclass(frozen=True, slots=True)
class _Making:
    ctx: StageContext
    config: Settings
    prepared: Prepared
    documents: Sequence[tuple[str, str]]
    """(name, text) of the train part."""
    before: Shelf | None
    shelf: Shelf

    @staticmethod
    def begin(ctx: StageContext, config: Settings) -> _Making:
        from bloomery.data.prepared import Prepared
        from bloomery.stages import models
        from bloomery.systems.harmonic.packets import gathered, shelve

        assert ctx.data is not None
        models.use_threads(ctx.threads)
        prepared = Prepared.open(ctx.data)
        models.check_tokenizer(ctx.inputs["model"].path, prepared.tokenizer)
        documents = texts_of(prepared, next(iter(config.data)))
        packets, before = gathered(documents), None
        if "experts" in ctx.inputs:
            before = read_shelf(ctx.inputs["experts"].path)
            if before.specialists != config.specialists:
                found = f"{before.specialists} specialists come in"
                raise ArtifactError("experts", found, f"{config.specialists}, as the stage's settings say")
        shelf = shelve(packets, config.specialists) if before is None else before.added(packets)
        return _Making(ctx, config, prepared, documents, before, shelf)

    def make(self) -> StageResult:
        """Every model is trained in a checkpoint of its own, so a killed stage trains none of them again."""
        every = range(self.config.specialists)
        grown = every if self.before is None else self.shelf.grown(self.before)
        for one in every:
            if one in grown:
                self._train(f"members/{one}", one, self._start(one), self.config.steps // self.config.specialists)
            else:
                assert self._start(one).is_dir()
        each = self.config.steps // self.config.specialists
        self._train("one", None, self.ctx.inputs["model"].path, each * self.config.specialists)
        folder = self.ctx.workdir / "experts"
        for one in every:
            source = self.ctx.workdir / f"members/{one}" if one in grown else self._start(one)
            shutil.copytree(source, folder / "members" / str(one), ignore=shutil.ignore_patterns("artifact.json"))
        self._measure(folder, len(grown))
        self._write(folder)
        return StageResult(outputs={"experts": folder})

    def _start(self, one: int) -> Path:
        given = self.ctx.inputs.get("experts")
        return self.ctx.inputs["model"].path if given is None else given.path / "members" / str(one)

    def _train(self, name: str, one: int | None, start: Path, steps: int) -> None:
        """A model in workdir/NAME, tuned on what specialist `one` holds; None: on all."""
        from bloomery.data.mix import Batches
        from bloomery.stages import models
        from bloomery.stages.pricing import training_cost
        from bloomery.train.loop import fit

        ctx, config = self.ctx, self.config
        if ctx.should_stop():
            raise Stopped
        held = None if one is None else set(self.shelf.held_by(one))
        part = self._part(name, held)
        precision = ctx.precision if config.precision == "auto" else config.precision
        settings = models.settings_of(start)
        cost = training_cost(config, settings, ctx.vocab)
        model = models.load_model(start, device=ctx.device, precision=precision).train()
        batches = Batches(
            [(part, 1.0)], batch=config.batch, context=config.context, seed=ctx.seed, packing=config.packing
        )
        with training.memory_named(config, ctx.device):
            result = fit(
                model, batches, replace(training.fit_config(ctx, config), steps=steps),
                checkpoint=ctx.checkpoint / name, device=ctx.device,
                signature={"part": part.digest, "settings": config.model_dump(mode="json"), "seed": ctx.seed},
                allow_changed=ctx.allow_changed, on_progress=ctx.progress, should_stop=ctx.should_stop,
                on_step=lambda tokens: ctx.spend(tokens=tokens, flops=tokens * cost.flops / cost.tokens),
            )  # fmt: skip
        if result.stopped:
            raise Stopped
        models.save(ctx.workdir / name, model, settings, precision, self.prepared.tokenizer)

    def _part(self, name: str, held: set[str] | None) -> TokenFile:
        from bloomery.data.corpus import Document
        from bloomery.data.tokens import write_token_file
        from bloomery.systems.harmonic.packets import packet_of

        chosen = (Document(one, text) for one, text in self.documents if held is None or packet_of(one) in held)
        file = self.ctx.checkpoint / "parts" / f"{name.replace('/', '-')}.tokens"
        return write_token_file(file, chosen, self.prepared.tokenizer)

    def _measure(self, folder: Path, trained: int) -> None:
        ctx, shelf = self.ctx, self.shelf
        judged = halves(texts_of(self.prepared, self.config.validation_part), self.config.validation.documents)
        part = self._judged("plain", judged)
        models = {str(one): folder / "members" / str(one) for one in range(shelf.specialists)}
        models |= {"one": ctx.workdir / "one", "base": ctx.inputs["model"].path}
        losses = {name: self._losses(path, part) for name, path in models.items()}
        with_context = [_behind(one, self._retrieved(one)) for one in judged]
        losses["retrieval"] = self._losses(ctx.inputs["model"].path, self._judged("retrieved", with_context))
        from bloomery.systems.harmonic.packets import route

        relevance = shelf.relevance()
        chosen = [route(relevance, shelf.specialists, one.text[: one.prompt]) for one in judged]
        members = [losses[str(one)] for one in range(shelf.specialists)]
        losses["routed"] = [members[one][at] for at, one in enumerate(chosen)]
        losses["random"] = [sum(several) / len(several) for several in zip(*members, strict=True)]
        self._tell(losses, part)
        for name, value in (("specialists", shelf.specialists), ("held", len(shelf.places)), ("trained", trained)):
            ctx.measure(f"packets/{name}", value)

    def _judged(self, name: str, documents: Sequence[Document]) -> TokenFile:
        from bloomery.data.tokens import write_token_file

        return write_token_file(self.ctx.checkpoint / "parts" / f"{name}.tokens", documents, self.prepared.tokenizer)

    def _losses(self, folder: Path, part: TokenFile) -> list[float]:
        """Nats of each document's second half."""
        from bloomery.evaluate.perplexity import perplexity
        from bloomery.stages import models

        if self.ctx.should_stop():
            raise Stopped
        model = models.load_model(folder, device=self.ctx.device)
        return list(perplexity(model, part, context=self.config.context, device=self.ctx.device).loss_sums)

    def _retrieved(self, document: Document) -> str:
        """The train document with most of the first half's words, weighted by idf, cut to a quarter of the context."""
        from bloomery.evaluate.cascade.routing import words_of

        asked = words_of(document.text[: document.prompt])
        best = max(self.documents, key=lambda one: sum(map(self.shelf.weight, sorted(asked & words_of(one[1])))))
        tokenizer = self.prepared.tokenizer
        return tokenizer.decode(tokenizer.encode(best[1])[: self.config.context // 4])

    def _tell(self, losses: Mapping[str, Sequence[float]], part: TokenFile) -> None:
        from bloomery.engine.intervals import items_interval, paired_interval

        counts = tuple(float(len(part.document(at)) - part.prompts[at]) for at in range(part.documents))
        total = sum(counts)
        items = {name: Items(f"packets:{part.digest}", tuple(sums), counts) for name, sums in losses.items()}
        for name in ("routed", *CONTROLS, "base"):
            mean, interval = sum(losses[name]) / total, items_interval([items[name]])
            self.ctx.measure(
                f"packets/{name}_loss", mean, n=part.documents, interval=interval, unit="nats_per_token",
                items=items[name],
            )  # fmt: skip
        for name in CONTROLS:
            less = (sum(losses["routed"]) - sum(losses[name])) / total
            interval = paired_interval([(items["routed"], items[name])], "difference")
            self.ctx.measure(f"packets/over_{name}", less, n=part.documents, interval=interval, unit="nats_per_token")

    def _write(self, folder: Path) -> None:
        from bloomery.engine.artifact import write_atomically
        from bloomery.systems.harmonic.packets import gathered

        texts = gathered(self.documents)
        write_atomically(folder / SHELF, json.dumps(self.shelf.to_json(), indent=1).encode())
        for one in range(self.shelf.specialists):
            held = [" ".join(texts[name].split()) for name in self.shelf.held_by(one) if name in texts]
            write_atomically(folder / "packets" / f"{one}.txt", "\n\n".join(held).encode())


def texts_of(prepared: Prepared, part: str) -> list[tuple[str, str]]:
    """(name, text) of the documents of a part."""
    file, tokenizer = prepared.part(part), prepared.tokenizer
    return [(name, tokenizer.decode(file.document(at)[:-1])) for at, name in enumerate(file.names)]


def halves(documents: Sequence[tuple[str, str]], limit: int | None) -> list[Document]:
    """At most `limit` of those that are long enough, evenly spread, the first half as prompt.

    Raises DataError where there is none."""
    from bloomery.data.corpus import Document
    from bloomery.evaluate.perplexity import spread

    long = [(name, text) for name, text in documents if len(text) >= SHORTEST]
    if not long:
        raise DataError("validation", "no held-out document is long enough", f"{SHORTEST} characters")
    return [Document(*long[at], prompt=_middle(long[at][1])) for at in spread(len(long), limit)]


def _middle(text: str) -> int:
    """The end of the first half, before white space where there is any."""
    middle = len(text) // 2
    space = next((at for at in range(middle, len(text) - 1) if text[at].isspace()), middle)
    return max(1, space)


def _behind(document: Document, text: str) -> Document:
    before = f"{text}\n\n"
    return replace(document, text=before + document.text, prompt=len(before) + document.prompt)


def read_shelf(folder: Path) -> Shelf:
    """Raises ArtifactError where the folder holds no specialists."""
    from bloomery.systems.harmonic.packets import Shelf

    try:
        return Shelf.from_json(json.loads((folder / SHELF).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(str(folder), f"no packets here ({error})", "what harmonic/packets handed on") from None
