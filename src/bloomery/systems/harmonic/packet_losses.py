"""What packets of specialists are judged by: held-out documents, and the rivals that read them too.

The first half of a document chooses: the specialist, by the router, and the passage, by TF-IDF. Of the second half the
first context // 2 tokens are scored, the same for all, each document in one window, so that nothing that a rival may
read has slid out of sight. Before them stand, at most,

    context // 2    the tokens before them, for specialists, the one model and the base; or
    context // 4    the passage of the train documents that is nearest to the first half by TF-IDF (tfidf.py), of so
                    many tokens with the blank line after it, and then
    context // 4    the tokens before them, for retrieval.

`measure` tells, in nats per scored token, with intervals over documents and paired where two are compared:

    packets/routed_loss      of the specialist that the router chooses
    packets/random_loss      of one chosen at random: the mean over all, so without a draw's noise
    packets/one_loss         of one model tuned on all packets for as many tokens as the specialists together
    packets/retrieval_loss   of the model that the specialists began as, with what is retrieved
    packets/base_loss        of that model alone
    packets/over_random, over_one, over_retrieval    routed minus that

Refuses held-out documents without a second half.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bloomery.engine.stage import StageContext, Stopped
from bloomery.errors import DataError
from bloomery.measure import Emitted, Items

if TYPE_CHECKING:
    from bloomery.data.corpus import Document
    from bloomery.data.prepared import Prepared
    from bloomery.data.tokenizer import Ids
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
    """Of `judged`, with models of one tokenizer."""

    ctx: StageContext
    prepared: Prepared
    judged: Sequence[Document]
    context: int

    def of(self, folder: Path, windows: TokenFile) -> list[float]:
        """Nats of what is scored of each document. Raises Stopped."""
        from bloomery.evaluate.perplexity import perplexity
        from bloomery.stages import models

        if self.ctx.should_stop():
            raise Stopped
        model = models.load_model(folder, device=self.ctx.device)
        return list(perplexity(model, windows, context=self.context, device=self.ctx.device).loss_sums)

    def windows(self, found: Sequence[Ids] | None = None) -> TokenFile:
        """One for each document; `found`: what was retrieved for it, at most context // 4 tokens."""
        from bloomery.data.tokens import tokens_of

        return in_one_window(tokens_of("judged", self.judged, self.prepared.tokenizer), self.context, found)

    def retrieved(self, texts: Sequence[str]) -> list[Ids]:
        """For each document the passage of `texts` that is nearest to its first half, and a blank line."""
        import numpy as np

        from bloomery.systems.harmonic.tfidf import Retrieval

        tokenizer = self.prepared.tokenizer
        blank = tokenizer.encode("\n\n")
        cut = list(passages(tokenizer.encode_many(texts), self.context // 4 - len(blank)))
        retrieval = Retrieval.of([tokenizer.decode(one) for one in cut])
        return [np.concatenate([cut[retrieval.best(one.text[: one.prompt])], blank]) for one in self.judged]


def passages(documents: Iterable[Ids], tokens: int) -> Iterator[Ids]:
    """Runs of so many tokens. The last of a document is as long as the others and overlaps the one before it: a short
    one would be near to whatever has its one word."""
    for document in documents:
        last = max(0, len(document) - tokens)
        for start in (*range(0, last, tokens), last):
            if len(document):
                yield document[start : start + tokens]


def in_one_window(file: TokenFile, context: int, found: Sequence[Ids] | None = None) -> TokenFile:
    """The documents cut to what is scored and what stands before it, which is their prompt now."""
    import numpy as np

    rows: list[Ids] = []
    prompts: list[int] = []
    for at in range(file.documents):
        document, middle = file.document(at), int(file.prompts[at])
        before = document[max(0, middle - context // (2 if found is None else 4)) : middle]
        if found is not None:
            assert len(found[at]) <= context // 4
            before = np.concatenate([found[at], before])
        rows.append(np.concatenate([before, document[middle : middle + context // 2]]))
        prompts.append(len(before))
    tokens = np.concatenate(rows)
    digest = hashlib.sha256(f"{file.digest} {prompts}".encode() + tokens.tobytes()).hexdigest()
    return replace(
        file, tokens=tokens, starts=np.cumsum([0, *map(len, rows)]), prompts=np.array(prompts), digest=digest,
        byte_counts=np.zeros(file.documents, np.int64),  # a cut may split a character; nobody asks for bits per byte
    )  # fmt: skip


def measure(
    reading: Losses, shelf: Shelf, members: Mapping[str, Path], one: Path, base: Path, texts: Sequence[str]
) -> None:
    """members: {`0`: folder, ...}. texts: of the train documents."""
    from bloomery.systems.harmonic.packets import route

    plain = reading.windows()
    each = [reading.of(members[str(number)], plain) for number in range(shelf.specialists)]
    relevance = shelf.relevance()
    chosen = [route(relevance, shelf.specialists, document.text[: document.prompt]) for document in reading.judged]
    losses = {
        "routed": [each[number][place] for place, number in enumerate(chosen)],
        "random": [sum(several) / len(several) for several in zip(*each, strict=True)],
        "one": reading.of(one, plain),
        "retrieval": reading.of(base, reading.windows(reading.retrieved(texts))),
        "base": reading.of(base, plain),
    }
    _tell(reading.ctx, losses, plain)


def _tell(ctx: StageContext, losses: Mapping[str, Sequence[float]], windows: TokenFile) -> None:
    from bloomery.engine.intervals import items_interval, paired_interval

    counts = tuple(float(len(windows.document(at)) - windows.prompts[at]) for at in range(windows.documents))
    total, unit = sum(counts), "nats_per_token"
    items = {name: Items(f"packets:{windows.digest}", tuple(sums), counts) for name, sums in losses.items()}
    for name, one in items.items():
        mean, interval = sum(one.sums) / total, items_interval([one])
        ctx.measure(f"packets/{name}_loss", mean, n=windows.documents, interval=interval, unit=unit, items=one)
    for name in CONTROLS:
        less = (sum(losses["routed"]) - sum(losses[name])) / total
        interval = paired_interval([(items["routed"], items[name])], "difference")
        ctx.measure(f"packets/over_{name}", less, n=windows.documents, interval=interval, unit=unit)


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
