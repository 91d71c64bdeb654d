"""harmonic/capture: what the model answers badly becomes examples, with the checked right answer.

Input `model`; output `data`. Items of the gauntlet's train part, drawn anew for every model, are each answered
`answers` times, first at temperature 0. An answer's score is 1 where the item's checker accepts it, else 0; an item's
score is their mean, and below `score_below` the item is an example with its reference. Its origin holds the score and
what the model said.

What a cascade that was served was voted down for comes on top (`served`, a set of stages/feedback.py's served.jsonl). A
prompt that is an item's is asked again, and the item judges it as any other; of other prompts nothing is known
but how they were corrected, and that is their example. Without a correction there is none, nor of an item of another
split: what is kept for judging is not learned from because somebody asked it.

    capture/score         mean over the items that were drawn
    capture/examples      all of them; items that were drawn: capture/asked
    capture/from_served   those of prompts that were voted down; and of how many: capture/served

Refuses a set that is no gauntlet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from bloomery.engine.stage import StageContext, StageResult, Stopped
from bloomery.measure import Emitted, Items
from bloomery.plan.schema import Frozen
from bloomery.systems.harmonic.asking import SLACK, Asking, Diary, Writer, writer_of

if TYPE_CHECKING:
    from bloomery.data.examples import Example
    from bloomery.data.prepared import Prepared
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
    served: str | None = None
    """Prompts whose answers were voted down, with their corrections; there may be none yet."""

    @property
    def parts(self) -> tuple[str, ...]:
        return (self.data, *([] if self.served is None else [self.served]))


def kind() -> Asking:
    metrics = {
        "capture/score": Emitted("share", "higher"), "capture/examples": Emitted("", "lower"),
        "capture/asked": Emitted(), "capture/served": Emitted(), "capture/from_served": Emitted("", "lower"),
    }  # fmt: skip
    return Asking(
        Settings, metrics, lambda config: config.parts, lambda config: config.questions * config.answers, _run
    )


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
    drawn = [items[at] for at in sorted(dice.sample(range(len(items)), min(config.questions, len(items))))]
    served = _served(prepared, config.served)
    kept_apart = _asked_for(served, _held_out(prepared, config.data) if served else [])
    known = _asked_for(served, items)
    down = {known[one.prompt].name: one.origin["item"] for one in served if one.prompt in known}
    names = {item.name for item in drawn}
    asked = [*drawn, *(item for item in items if item.name in down and item.name not in names)]
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
        Example(item.prompt, item.reference, item.category, {"item": item.name, **_served_as(down, item), **row})
        for item, row in zip(asked, told, strict=True)
        if row["score"] < config.score_below
    ]
    others = known.keys() | kept_apart.keys()
    corrected = {one.prompt: one for one in served if one.response.strip() and one.prompt not in others}
    examples += [
        Example(one.prompt, one.response, one.category, {"served": one.origin["item"]}) for one in corrected.values()
    ]
    count = len(drawn)
    scores = Items(f"capture:{count}", tuple(row["score"] for row in told[:count]), (1.0,) * count)
    mean = sum(scores.sums) / count
    ctx.measure("capture/score", mean, n=count, interval=items_interval([scores]), unit="share", items=scores)
    ctx.measure("capture/examples", len(examples))
    ctx.measure("capture/asked", count)
    ctx.measure("capture/served", len(served))
    ctx.measure("capture/from_served", sum("served" in one.origin for one in examples))
    made_by = {"kind": "harmonic/capture", "settings": config.model_dump(mode="json"), "asked": count}
    write_examples(ctx.workdir / "data", examples, made_by)
    return StageResult(outputs={"data": ctx.workdir / "data"})


def _served(prepared: Prepared, part: str | None) -> list[Example]:
    """Prompts whose answers were voted down, each with its correction or nothing; their origin's item is the answer."""
    from bloomery.stages.material import examples_of

    if part is None or not prepared.documents(part):
        return []
    return examples_of(prepared.part(part), prepared.tokenizer)


def _held_out(prepared: Prepared, name: str) -> list[Item]:
    from bloomery.evaluate.gauntlet.source import items_of

    parts = [f"{name}:{split}" for split in prepared.splits(name) if split != "train"]
    read = [prepared.part(part) for part in parts if prepared.documents(part)]
    return [item for part in read for item in items_of(part, prepared.tokenizer)]


def _asked_for(served: Sequence[Example], items: Sequence[Item]) -> dict[str, Item]:
    """{prompt: the item that it asks for}: as that is written or by its question alone, or as a chat that says either
    as its only message."""
    ways = {text.strip(): item for item in items for text in (item.prompt, item.task.question)} if served else {}
    found = {one.prompt: ways.get(_said_in(one.prompt).strip()) for one in served}
    return {prompt: item for prompt, item in found.items() if item is not None}


def _said_in(prompt: str) -> str:
    """What the user says in a chat of one message by the default template (data/chat.py); of others, all of it."""
    found = re.fullmatch(r"user: (.*)\nassistant:", prompt.strip(), re.DOTALL)
    return found[1] if found else prompt


def _served_as(down: Mapping[str, str], item: Item) -> dict[str, str]:
    return {"served": down[item.name]} if item.name in down else {}


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
