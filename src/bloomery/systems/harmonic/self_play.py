"""harmonic/self_play: the arena as a stage. What wins on the model's weakest axes becomes examples (arena.py).

Input `model`, which is to learn; `rival`, another checkpoint or a member of a cascade, where given. Either plays with
every setting under `competitors`; the first of them is `model` at temperature 0, always. Output `data`.

    play/accuracy       of the first competitor, on axes drawn at random
    play/yield          questions of the weakest axes that it missed and another answered / questions
    play/random_yield   the same of as many questions of axes drawn at random: the control
    play/yield_gain     their difference
    play/examples       and how many of them are references, no competitor being right: play/from_references
    play/rating/CATEGORY/TEMPLATE/DIFFICULTY    of the first competitor, on the axes that were played

Refuses a set that is no gauntlet, fewer axes than are weakest, and a part to be judged on: the questions are on the
training side of the split.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from bloomery.engine.stage import StageContext, StageResult, Stopped
from bloomery.measure import Emitted
from bloomery.plan.schema import Frozen
from bloomery.systems.harmonic.asking import SLACK, Asking, Diary, Writer, writer_of

if TYPE_CHECKING:
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.evaluate.gauntlet.item import Item
    from bloomery.systems.harmonic.arena import Arena

MOST_AXES = 99
"""len(axes.AXES), without building templates."""
RIVAL = "rival"


class Competitor(Frozen):
    """A way to draw answers."""

    temperature: float = Field(ge=0)
    top_p: float = Field(default=0.95, gt=0, le=1)


class Settings(Frozen):
    data: str = "skills"
    """The gauntlet whose training side is asked: a set with `source: gauntlet`."""
    axes: int = Field(default=24, ge=2, le=MOST_AXES)
    """How many are played, drawn evenly from the categories."""
    rounds: int = Field(default=100, ge=2)
    """Half of them on these axes in turn, half on the weakest."""
    questions: int = Field(default=5, ge=1)
    """Of a round, all on one axis."""
    weakest: int = Field(default=8, ge=1)
    competitors: tuple[Competitor, ...] = Field(
        default=(Competitor(temperature=0), Competitor(temperature=0.7), Competitor(temperature=1.0)), min_length=1
    )
    """How each model plays; the first has temperature 0."""
    choose: Literal["weakest", "random"] = "weakest"
    """random: the second half on random axes too, as an arm to compare with."""
    references: bool = True
    """Where nobody is right the reference is the lesson."""

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.competitors[0].temperature != 0:
            raise ValueError("the first competitor is the model as it is judged: temperature 0")
        if self.weakest > self.axes:
            raise ValueError(f"weakest {self.weakest} of {self.axes} axes; at most {self.axes}")
        if (self.rounds + 1) // 2 < self.axes:
            needed = 2 * self.axes - 1
            raise ValueError(f"{self.rounds} rounds do not visit {self.axes} axes in their first half; {needed} do")
        return self


def _metrics() -> dict[str, Emitted]:
    shares = {f"play/{name}": Emitted("share", "higher") for name in ("accuracy", "yield", "random_yield")}
    return {
        **shares, "play/yield_gain": Emitted("", "higher"), "play/examples": Emitted(),
        "play/from_references": Emitted("", "lower"), "play/rating/*/*/*": Emitted("", "higher"),
    }  # fmt: skip


def kind() -> Asking:
    return Asking(
        Settings, _metrics(), lambda config: (config.data,),
        lambda config: config.rounds * config.questions * len(config.competitors), _run, {RIVAL: False},
    )  # fmt: skip


def _run(ctx: StageContext, config: Settings) -> StageResult:
    from bloomery.data.examples import write_examples
    from bloomery.data.prepared import Prepared
    from bloomery.stages import models
    from bloomery.systems.harmonic.arena import Arena, Round, Rules
    from bloomery.systems.harmonic.axes import training_side

    assert ctx.data is not None
    models.use_threads(ctx.threads)
    prepared = Prepared.open(ctx.data)
    seed = (ctx.seed, ctx.inputs["model"].digest)  # each cycle of a loop asks other questions
    rules = Rules(
        seed, config.axes, config.rounds, config.questions, config.weakest, config.choose == "weakest",
        config.references,
    )  # fmt: skip
    arena = Arena(rules, training_side(prepared, config.data))
    diary = Diary(ctx.checkpoint)
    for row in diary.rows:
        arena.add(Round.from_json(row))
    names = ["model", *([RIVAL] if RIVAL in ctx.inputs else [])]
    writers = [writer_of(ctx.inputs[name].path, prepared.tokenizer, ctx.device) for name in names]
    while len(arena.rounds) < config.rounds:
        if ctx.should_stop():
            raise Stopped
        items = arena.next_questions()
        arena.play(items, _answers(items, len(arena.rounds), writers, config, prepared.tokenizer))
        diary.add(arena.rounds[-1].to_json())
        ctx.progress(step=len(arena.rounds), steps=config.rounds)
    lessons = arena.lessons()
    _measure(ctx, arena)
    won = sum(lesson.won for lesson in lessons)
    ctx.measure("play/examples", len(lessons))
    ctx.measure("play/from_references", len(lessons) - won)
    made_by = {
        "kind": "harmonic/self_play", "settings": config.model_dump(mode="json"), "models": names,
        "weakest": [axis.name for axis in arena.weakest()], "ratings": arena.ratings(),
    }  # fmt: skip
    write_examples(ctx.workdir / "data", (lesson.example for lesson in lessons), made_by)
    return StageResult(outputs={"data": ctx.workdir / "data"})


def _answers(
    items: Sequence[Item], number: int, writers: Sequence[Writer], config: Settings, tokenizer: Tokenizer
) -> list[list[str]]:
    """[competitor][question]: every model with the first setting, with the second, and so on; models in their order."""
    from bloomery.evaluate.gauntlet.item import Dice
    from bloomery.evaluate.sampling import Sampling

    most = SLACK + max(len(tokenizer.encode(f" {item.reference}")) for item in items)
    answers: list[list[str]] = []
    for way, competitor in enumerate(config.competitors):
        samplings = [
            Sampling(
                max_tokens=most, temperature=competitor.temperature, top_p=competitor.top_p,
                seed=Dice("answer", item.name, number, way).below(2**31),
            )
            for item in items
        ]  # fmt: skip
        answers += [write([item.prompt for item in items], samplings) for write in writers]
    return answers


def _measure(ctx: StageContext, arena: Arena) -> None:
    from bloomery.engine.intervals import unpaired_interval, wilson_interval

    first = [right for one in arena.rounds[: arena.rules.first_half] for right in one.right[0]]
    control, directed = arena.news()
    shares = {"accuracy": first, "yield": directed, "random_yield": control}
    around = {name: wilson_interval(sum(hits), len(hits)) for name, hits in shares.items()}
    for name, hits in shares.items():
        ctx.measure(f"play/{name}", sum(hits) / len(hits), n=len(hits), interval=around[name], unit="share")
    one, other = sum(directed) / len(directed), sum(control) / len(control)
    interval = unpaired_interval(one, around["yield"], other, around["random_yield"], "difference")
    ctx.measure("play/yield_gain", one - other, n=len(directed), interval=interval)
    for axis, points in arena.ratings().items():
        ctx.measure(f"play/rating/{axis}", points[0])
