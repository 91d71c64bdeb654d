"""What packets of specialists are judged by: the second half of held-out documents, and the rivals that read it too.

The first half of a document routes it and is not scored. `Losses` reads documents with any model; `measure` tells, in
nats per token of the second halves, with intervals over documents and paired where two are compared:

    packets/routed_loss      of the specialist that the router chooses
    packets/random_loss      of one chosen at random: the mean over all, so without a draw's noise
    packets/one_loss         of one model tuned on all packets for as many tokens as the specialists together
    packets/retrieval_loss   of the model that the specialists began as, with the train document before it that is
                             nearest to the first half by TF-IDF (tfidf.py; a quarter of the context at most)
    packets/base_loss        of that model alone
    packets/over_random, over_one, over_retrieval    routed minus that

Refuses held-out documents without a second half.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.engine.stage import StageContext, Stopped
from bloomery.errors import DataError
from bloomery.measure import Emitted, Items

if TYPE_CHECKING:
    from bloomery.data.corpus import Document
    from bloomery.data.prepared import Prepared
    from bloomery.data.tokens import TokenFile
    from bloomery.systems.harmonic.packets import Shelf

CONTROLS = ("random", "one", "retrieval")
SHORTEST = 40
"""Characters of a held-out document, to have two halves."""


def emitted() -> dict[str, Emitted]:
    loss = Emitted("nats_per_token", "lower")
    losses = [f"{name}_loss" for name in ("routed", *CONTROLS, "base")]
    return {f"packets/{name}": loss for name in (*losses, *(f"over_{name}" for name in CONTROLS))}


@dataclass(frozen=True, slots=True)
class Losses:
    """Of the second halves of `judged`, with models of one tokenizer."""

    ctx: StageContext
    prepared: Prepared
    judged: Sequence[Document]
    context: int

    def part(self, name: str, documents: Sequence[Document]) -> TokenFile:
        from bloomery.data.tokens import write_token_file

        return write_token_file(self.ctx.checkpoint / "parts" / f"{name}.tokens", documents, self.prepared.tokenizer)

    def of(self, folder: Path, part: TokenFile) -> list[float]:
        """Nats of each document's second half. Raises Stopped."""
        from bloomery.evaluate.perplexity import perplexity
        from bloomery.stages import models

        if self.ctx.should_stop():
            raise Stopped
        model = models.load_model(folder, device=self.ctx.device)
        return list(perplexity(model, part, context=self.context, device=self.ctx.device).loss_sums)

    def retrieved(self, texts: Sequence[str]) -> list[Document]:
        """Those that are judged, each behind the text that is nearest to its first half."""
        from bloomery.systems.harmonic.tfidf import Retrieval

        retrieval, tokenizer = Retrieval.of(texts), self.prepared.tokenizer
        found: list[Document] = []
        for one in self.judged:
            nearest = texts[retrieval.best(one.text[: one.prompt])]
            before = tokenizer.decode(tokenizer.encode(nearest)[: self.context // 4]) + "\n\n"
            found.append(replace(one, text=before + one.text, prompt=len(before) + one.prompt))
        return found


def measure(
    reading: Losses, shelf: Shelf, members: Mapping[str, Path], one: Path, base: Path, texts: Sequence[str]
) -> None:
    """members: {`0`: folder, ...}. texts: of the train documents."""
    from bloomery.systems.harmonic.packets import route

    part = reading.part("plain", reading.judged)
    each = [reading.of(members[str(number)], part) for number in range(shelf.specialists)]
    relevance = shelf.relevance()
    chosen = [route(relevance, shelf.specialists, document.text[: document.prompt]) for document in reading.judged]
    losses = {
        "routed": [each[number][place] for place, number in enumerate(chosen)],
        "random": [sum(several) / len(several) for several in zip(*each, strict=True)],
        "one": reading.of(one, part),
        "retrieval": reading.of(base, reading.part("retrieved", reading.retrieved(texts))),
        "base": reading.of(base, part),
    }
    _tell(reading.ctx, losses, part)


def _tell(ctx: StageContext, losses: Mapping[str, Sequence[float]], part: TokenFile) -> None:
    from bloomery.engine.intervals import items_interval, paired_interval

    counts = tuple(float(len(part.document(at)) - part.prompts[at]) for at in range(part.documents))
    total, unit = sum(counts), "nats_per_token"
    items = {name: Items(f"packets:{part.digest}", tuple(sums), counts) for name, sums in losses.items()}
    for name, one in items.items():
        mean, interval = sum(one.sums) / total, items_interval([one])
        ctx.measure(f"packets/{name}_loss", mean, n=part.documents, interval=interval, unit=unit, items=one)
    for name in CONTROLS:
        less = (sum(losses["routed"]) - sum(losses[name])) / total
        interval = paired_interval([(items["routed"], items[name])], "difference")
        ctx.measure(f"packets/over_{name}", less, n=part.documents, interval=interval, unit=unit)


def halves(documents: Sequence[tuple[str, str]], limit: int | None) -> list[Document]:
    """At most `limit` of those (name, text) that are long enough, evenly spread, the first half as prompt.

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
