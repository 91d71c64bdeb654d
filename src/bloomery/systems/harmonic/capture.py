"""harmonic/capture: what the model answers badly becomes examples, with the checked right answer.

Input `model`; output `data`. Items of the gauntlet's train part, drawn anew for every model, are each answered
`answers` times, first at temperature 0. An answer's score is 1 where the item's checker accepts it, else 0; an item's
score is their mean, and below `score_below` the item is an example with its reference. Its origin holds the score and
what the model said.

    capture/score      mean over the items that were asked
    capture/examples   items that scored badly; and of how many: capture/asked

Refuses a set that is no gauntlet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bloomery.engine.stage import StageContext, StageResult, Stopped
from bloomery.measure import Emitted, Items
from bloomery.plan.schema import Frozen
from bloomery.systems.harmonic.asking import SLACK, Asking, Diary, Writer, writer_of

if TYPE_CHECKING:
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.evaluate.gauntlet.item import Item

AT_ONCE = 32
TEMPERATURE = 0.8
"""Of further answers to the same question."""


class Settings(Frozen):
    data: str = "skills"
    """The gauntlet whose train part is asked."""
    score_below: float = Field(default=0.5, gt=0, le=1)
    """Items below this score become examples."""
    questions: int = Field(default=400, ge=1)
    """Items that are asked, at most as many as there are."""
    answers: int = Field(default=1, ge=1)
    """To each item; the score is the share that is right."""


def kind() -> Asking:
    metrics = {
        "capture/score": Emitted("share", "higher"), "capture/examples": Emitted("", "lower"),
        "capture/asked": Emitted(),
    }  # fmt: skip
    return Asking(Settings, metrics, lambda config: config.data, lambda config: config.questions * config.answers, _run)


def _run(ctx: StageContext, config: Settings) -> StageResult:
    from bloomery.data.examples import Example, write_examples
    from bloomery.data.prepared import Prepared
    from bloomery.engine.intervals import items_interval
    from bloomery.evaluate.gauntlet.item import Dice
    from bloomery.evaluate.gauntlet.source import items_of
    from bloomery.stages import models

    assert ctx.data is not None
    models.use_threads(ctx.threads)
    prepared = Prepared.open(ctx.data)
    items = items_of(prepared.part(f"{config.data}:train"), prepared.tokenizer)
    dice = Dice("capture", ctx.seed, ctx.inputs["model"].digest)
    asked = [items[at] for at in sorted(dice.sample(range(len(items)), min(config.questions, len(items))))]
    diary = Diary(ctx.checkpoint)
    write = writer_of(ctx.inputs["model"].path, prepared.tokenizer, ctx.device)
    while len(diary.rows) * AT_ONCE < len(asked):
        if ctx.should_stop():
            raise Stopped
        start = len(diary.rows) * AT_ONCE
        diary.add(_answered(asked[start : start + AT_ONCE], config.answers, write, prepared.tokenizer))
        ctx.progress(step=min(start + AT_ONCE, len(asked)), steps=len(asked))
    told = [row for rows in diary.rows for row in rows]
    examples = [
        Example(item.prompt, item.reference, item.category, {"item": item.name, **row})
        for item, row in zip(asked, told, strict=True)
        if row["score"] < config.score_below
    ]
    scores = Items(f"capture:{len(asked)}", tuple(row["score"] for row in told), (1.0,) * len(asked))
    mean = sum(scores.sums) / len(asked)
    ctx.measure("capture/score", mean, n=len(asked), interval=items_interval([scores]), unit="share", items=scores)
    ctx.measure("capture/examples", len(examples))
    ctx.measure("capture/asked", len(asked))
    made_by = {"kind": "harmonic/capture", "settings": config.model_dump(mode="json"), "asked": len(asked)}
    write_examples(ctx.workdir / "data", examples, made_by)
    return StageResult(outputs={"data": ctx.workdir / "data"})


def _answered(items: Sequence[Item], times: int, write: Writer, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """{score, said: the first answer} of each item."""
    from bloomery.evaluate.sampling import Sampling

    prompts = [item.prompt for item in items]
    most = [SLACK + len(tokenizer.encode(f" {item.reference}")) for item in items]
    answers = [
        write(prompts, [Sampling(max_tokens=n, temperature=TEMPERATURE if time else 0.0, seed=time) for n in most])
        for time in range(times)
    ]
    return [
        {"score": sum(map(item.accepts, said)) / times, "said": said[0]}
        for item, *said in zip(items, *answers, strict=True)
    ]
