"""harmonic/packets: K small models, each tuned on its packets of documents, behind an idf router (packets.py).

Input `model`, which every specialist begins as; `experts`, an earlier output, where packets are added to it: then only
those whose packets have grown are trained, from what they were, and the others are kept. What `experts` hold is still
held where its documents are gone. Output `experts`: shelf.json, members/0 to K - 1, packets/K.txt (a paragraph each).

`added` names a further set whose documents come on top: what `bloomery serve` was given while it ran
(stages/packets.py). shelf.json holds a digest of what each specialist holds, so that a specialist has grown if its
digest is another one.

Judged as packet_losses.py says, where the metrics stand too: against random routing, plain TF-IDF retrieval, and one
model tuned on all packets for as many tokens as the specialists together. K specialists store K times the numbers of
one, and per token as many are active; which of the two the one model equals is for `one` to say: `active`, it begins
as `model` does; `stored`, as the input `one`, which has to store what the specialists store together.

Refuses fewer packets than specialists, fewer steps than one for each, `experts` of another number, and an input `one`
whose numbers are not within TOLERANCE of theirs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, Field, model_validator

from bloomery.engine.stage import Cost, StageContext, StageResult, Stopped
from bloomery.errors import ArtifactError
from bloomery.measure import Emitted
from bloomery.stages import training
from bloomery.stages.settings import Mixture, Training
from bloomery.systems.harmonic import packet_losses

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared
    from bloomery.data.tokens import TokenFile
    from bloomery.systems.harmonic.packets import Shelf

SHELF = "shelf.json"
SHORTEST = 16
"""Tokens of the context."""
TOLERANCE = 0.05
"""Of the stored numbers of the one model, where they are to be those of all specialists."""


class Settings(Training):
    data: Mixture = Field(default_factory=lambda: {"manuals": 1.0})
    """The documents: one set."""
    added: str | None = None
    """A further part, whose documents are packets too: what came while the specialists were serving."""
    specialists: int = Field(default=8, ge=2)
    """Each is trained for an equal share of `tokens`, and the control, one model of all packets, for all of them."""
    one: Literal["active", "stored"] = "active"
    """What that control equals: the numbers of one specialist, or those of all of them; then it begins as the input
    `one`."""

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if len(self.data) != 1:
            raise ValueError(f"packets come from one set of documents, not from {len(self.data)}")
        if self.context < SHORTEST:
            raise ValueError(f"a context of {self.context}; {SHORTEST} at least, a quarter of which is for retrieval")
        if self.steps < self.specialists:
            raise ValueError(f"{self.steps} steps for {self.specialists} specialists; more tokens, or fewer of them")
        return self


class Packets:
    """The stage kind."""

    def config_model(self) -> type[BaseModel]:
        return Settings

    def emits(self, config: BaseModel) -> Mapping[str, Emitted]:
        names = ("specialists", "held", "trained", "stored", "one_stored")
        return packet_losses.emitted() | {f"packets/{name}": Emitted() for name in names}

    def produces(self, config: BaseModel) -> Mapping[str, str]:
        return {"experts": "experts"}

    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        assert isinstance(config, Settings)
        return {"model": True, "experts": False} | ({"one": True} if config.one == "stored" else {})

    def fits_on(self, config: BaseModel) -> tuple[str, ...]:
        assert isinstance(config, Settings)
        added = () if config.added is None else (config.added if ":" in config.added else f"{config.added}:train",)
        return (*training.parts_read(config), *added)

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
        larger = config.specialists if config.one == "stored" else 1
        disk = (config.specialists + larger) * one.disk_bytes
        memory = {name: larger * getattr(one, name) for name in ("weight_bytes", "gradient_bytes", "optimiser_bytes")}
        return replace(one, tokens=2 * one.tokens, flops=(1 + larger) * one.flops, disk_bytes=disk, **memory)

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
    """(name, text) of the train part, and of packets that `experts` hold and it does not."""
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
        parts = [next(iter(config.data))]
        if config.added is not None and prepared.documents(config.added):
            parts.append(config.added)
        documents = [document for part in parts for document in texts_of(prepared, part)]
        packets, before = gathered(documents), None
        if "experts" in ctx.inputs:
            before = read_shelf(ctx.inputs["experts"].path)
            gone = before.places.keys() - packets.keys()
            kept = {name: text for name, text in _texts_held(ctx.inputs["experts"].path, before) if name in gone}
            packets, documents = packets | kept, [*documents, *kept.items()]
            if before.specialists != config.specialists:
                found = f"{before.specialists} specialists come in"
                raise ArtifactError("experts", found, f"{config.specialists}, as the stage's settings say")
        shelf = shelve(packets, config.specialists) if before is None else before.added(packets)
        return _Making(ctx, config, prepared, documents, before, shelf)

    def _one(self) -> Path:
        """What the control begins as. Raises ArtifactError where it does not store what it has to."""
        if self.config.one == "active":
            return self.ctx.inputs["model"].path
        folder, together = self.ctx.inputs["one"].path, self.config.specialists * stored(self.ctx.inputs["model"].path)
        if abs(stored(folder) / together - 1) > TOLERANCE:
            found = f"it stores {stored(folder):,} numbers, and {self.config.specialists} specialists {together:,}"
            raise ArtifactError("one", found, f"as many within {TOLERANCE:.0%}", "another width of that model")
        return folder

    def make(self) -> StageResult:
        """Every model is trained in a checkpoint of its own, so a killed stage trains none of them again."""
        every = range(self.config.specialists)
        grown = every if self.before is None else self.shelf.grown(self.before)
        each = self.config.steps // self.config.specialists
        for one in every:
            if one in grown:
                self._train(f"members/{one}", one, self._start(one), each)
        self._train("one", None, self._one(), each * self.config.specialists)
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
        """What is held, as often as it takes to fill a row of the context."""
        from bloomery.data.corpus import Document
        from bloomery.data.tokens import write_token_file
        from bloomery.systems.harmonic.packets import packet_of

        tokenizer = self.prepared.tokenizer
        chosen = [Document(one, text) for one, text in self.documents if held is None or packet_of(one) in held]
        tokens = sum(len(tokenizer.encode(one.text)) + 1 for one in chosen)
        file = self.ctx.checkpoint / "parts" / f"{name.replace('/', '-')}.tokens"
        return write_token_file(file, chosen * (1 + self.config.context // max(1, tokens)), tokenizer)

    def _measure(self, folder: Path, trained: int) -> None:
        config, ctx, shelf = self.config, self.ctx, self.shelf
        judged = packet_losses.halves(texts_of(self.prepared, config.validation_part), config.validation.documents)
        members = {str(one): folder / "members" / str(one) for one in range(shelf.specialists)}
        packet_losses.measure(
            packet_losses.Losses(ctx, self.prepared, judged, config.context), shelf, members, ctx.workdir / "one",
            ctx.inputs["model"].path, [text for _, text in self.documents],
        )  # fmt: skip
        counts = {
            "specialists": shelf.specialists, "held": len(shelf.places), "trained": trained,
            "stored": shelf.specialists * stored(members["0"]), "one_stored": stored(ctx.workdir / "one"),
        }  # fmt: skip
        for name, value in counts.items():
            ctx.measure(f"packets/{name}", value)

    def _write(self, folder: Path) -> None:
        from bloomery.engine.artifact import write_atomically
        from bloomery.systems.harmonic.packets import gathered

        texts = gathered(self.documents)
        write_atomically(folder / SHELF, json.dumps(self.shelf.to_json(), indent=1).encode())
        for one in range(self.shelf.specialists):
            held = [" ".join(texts[name].split()) for name in self.shelf.held_by(one) if name in texts]
            write_atomically(_packets_file(folder, one), "\n\n".join(held).encode())


def texts_of(prepared: Prepared, part: str) -> list[tuple[str, str]]:
    """(name, text) of the documents of a part."""
    file, tokenizer = prepared.part(part), prepared.tokenizer
    return [(name, tokenizer.decode(file.document(at)[:-1])) for at, name in enumerate(file.names)]


def _packets_file(folder: Path, one: int) -> Path:
    return folder / "packets" / f"{one}.txt"


def _texts_held(folder: Path, shelf: Shelf) -> Iterator[tuple[str, str]]:
    """(packet, its text) as specialists were handed on. A paragraph has no name: it is the one that says the same."""
    from bloomery.evaluate.cascade.routing import words_of

    for one in range(shelf.specialists):
        paragraphs = _packets_file(folder, one).read_text(encoding="utf-8").split("\n\n")
        said = {words_of(paragraph): paragraph for paragraph in paragraphs}
        yield from ((name, said[words]) for name in shelf.held_by(one) if (words := shelf.words[name]) in said)


def stored(folder: Path) -> int:
    """How many numbers the model in a folder stores."""
    from bloomery.stages import models
    from bloomery.stages.settings import architecture

    card = models.card(folder)
    return architecture(card["model"]).tally(card["vocab"]).stored


def read_shelf(folder: Path) -> Shelf:
    """Raises ArtifactError where the folder holds no specialists."""
    from bloomery.systems.harmonic.packets import Shelf

    try:
        return Shelf.from_json(json.loads((folder / SHELF).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(str(folder), f"no packets here ({error})", "what harmonic/packets handed on") from None
