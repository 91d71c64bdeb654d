"""harmonic/gap_extraction: what documents claim and the model does not know becomes examples, with their place.

Input `model`; output `data`. The claims of the documents (claims.py), in an order drawn for every model, are asked one
after the other until `questions` of them are gaps. Answered, and so no gap, is a question where model and document
share most words: F1 over words >= KNOWN, without case, punctuation and articles, as SQuAD counts it (Rajpurkar et al.
2016, arXiv 1606.05250). Every example's origin names the document, the span of characters and the section.

    gaps/answered    share of the questions asked that the model answered
    gaps/examples    gaps; of gaps/asked questions, of gaps/documents documents

A question whose answer cannot be told from its words alone is a gap too, and a paraphrase with other words counts as
one. Refuses documents that claim nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bloomery.engine.stage import StageContext, StageResult, Stopped
from bloomery.errors import DataError
from bloomery.measure import Emitted
from bloomery.plan.schema import Frozen
from bloomery.systems.harmonic.asking import SLACK, Asking, Diary, Writer, writer_of

if TYPE_CHECKING:
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.data.tokens import TokenFile

AT_ONCE = 32
TIMES_ASKED = 4
"""Questions that are asked at most for one that is wanted."""
KNOWN = 0.8
_ARTICLES = frozenset({"a", "an", "the"})


class Settings(Frozen):
    data: str = "manuals"
    """The documents, a set or one of its parts."""
    questions: int = Field(default=300, ge=1)
    """Gaps that are wanted, at most."""


def kind() -> Asking:
    metrics = {
        "gaps/answered": Emitted("share", "higher"), "gaps/examples": Emitted(), "gaps/asked": Emitted(),
        "gaps/documents": Emitted(),
    }  # fmt: skip
    return Asking(Settings, metrics, lambda config: (config.data,), lambda config: TIMES_ASKED * config.questions, _run)


def overlap(said: str, wanted: str) -> float:
    """F1 over words, 0 to 1."""
    one, other = (Counter(_words(text)) for text in (said, wanted))
    shared = (one & other).total()
    return 2 * shared / (one.total() + other.total()) if shared else 0.0


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in _ARTICLES]


def questions_of(part: TokenFile, tokenizer: Tokenizer, order: Sequence[int]) -> Iterator[dict[str, Any]]:
    """{prompt, answer, origin} of every claim, document by document."""
    from bloomery.systems.harmonic.claims import claims, title

    for index in order:
        name = part.names[index]
        for claim in claims(tokenizer.decode(part.document(index)[:-1]), title(name)):
            span = {"start": claim.start, "end": claim.end, "section": claim.section}
            yield {
                "prompt": f"Q: {claim.question}\nA:",
                "answer": claim.answer,
                "category": part.categories[index] or "read",
                "origin": {"document": name, **span},
            }


def _run(ctx: StageContext, config: Settings) -> StageResult:
    from bloomery.data.examples import Example, write_examples
    from bloomery.data.prepared import Prepared
    from bloomery.engine.intervals import wilson_interval
    from bloomery.evaluate.gauntlet.item import Dice
    from bloomery.stages import models

    assert ctx.data is not None
    models.use_threads(ctx.threads)
    prepared = Prepared.open(ctx.data)
    part, tokenizer = prepared.part(config.data), prepared.tokenizer
    order = Dice("gaps", ctx.seed, ctx.inputs["model"].digest).shuffled(range(part.documents))
    waiting = questions_of(part, tokenizer, order)
    most = TIMES_ASKED * config.questions
    diary = Diary(ctx.checkpoint)
    asked = [question for known in diary.rows for _, question in zip(known, waiting, strict=False)]
    told = [known for rows in diary.rows for known in rows]
    write = writer_of(ctx.inputs["model"].path, tokenizer, ctx.device)
    while sum(not known for known in told) < config.questions and (left := most - len(asked)):
        if ctx.should_stop():
            raise Stopped
        some = [question for _, question in zip(range(min(AT_ONCE, left)), waiting, strict=False)]
        if not some:
            break
        diary.add(_known(some, write, tokenizer))
        asked += some
        told += diary.rows[-1]
        ctx.progress(step=sum(not known for known in told), steps=config.questions)
    if not asked:
        raise DataError(f"data.{config.data}", "its documents claim nothing", "prose with sentences or sections")
    gaps = [question for question, known in zip(asked, told, strict=True) if not known][: config.questions]
    examples = [Example(one["prompt"], one["answer"], one["category"], one["origin"]) for one in gaps]
    share = sum(told) / len(told)
    ctx.measure("gaps/answered", share, n=len(told), interval=wilson_interval(sum(told), len(told)), unit="share")
    ctx.measure("gaps/examples", len(examples))
    ctx.measure("gaps/asked", len(asked))
    ctx.measure("gaps/documents", len({one["origin"]["document"] for one in asked}))
    made_by = {"kind": "harmonic/gap_extraction", "settings": config.model_dump(mode="json"), "asked": len(asked)}
    write_examples(ctx.workdir / "data", examples, made_by)
    return StageResult(outputs={"data": ctx.workdir / "data"})


def _known(some: Sequence[dict[str, Any]], write: Writer, tokenizer: Tokenizer) -> list[bool]:
    from bloomery.evaluate.sampling import Sampling

    most = [SLACK + len(tokenizer.encode(f" {one['answer']}")) for one in some]
    said = write([one["prompt"] for one in some], [Sampling(max_tokens=n, temperature=0.0) for n in most])
    return [overlap(text, one["answer"]) >= KNOWN for text, one in zip(said, some, strict=True)]
