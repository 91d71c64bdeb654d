"""Following instructions to the letter: repeat, reverse, capitals, leave out, the last word. Held out: the first word.

White space apart, the answer must be exactly what was asked for. An instruction says which line it is about after a
colon; the words of the line are the tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bloomery.evaluate.gauntlet.answers import exactly
from bloomery.evaluate.gauntlet.item import Dice, Task, Template
from bloomery.evaluate.gauntlet.words import THINGS

TIMES = {2: "two", 3: "three", 4: "four"}


def _do(instruction: str, make: Callable[[Sequence[str]], str]) -> Callable[[list[str]], Task]:
    def build(words: list[str]) -> Task:
        answer = make(words)
        options = tuple(words) if answer in words else ()
        return Task(f"{instruction}: {' '.join(words)}", answer, exactly(answer), tuple(sorted(words)), options)

    return build


def _repeat(words: list[str], times: int) -> Task:
    answer = " ".join(words * times)
    question = f"Write this {TIMES[times]} times, on one line: {' '.join(words)}"
    return Task(question, answer, exactly(answer), (times, *sorted(words)))


def _without(words: list[str], left_out: str) -> Task:
    answer = " ".join(word for word in words if word != left_out)
    question = f"Copy this line without the word {left_out}: {' '.join(words)}"
    return Task(question, answer, exactly(answer), (left_out, *sorted(words)))


def _draw(dice: Dice) -> tuple[list[str]]:
    return (dice.sample(THINGS, dice.between(3, 6)),)


def _draw_repeat(dice: Dice) -> tuple[list[str], int]:
    return dice.sample(THINGS, dice.between(1, 2)), dice.pick(tuple(TIMES))


def _draw_without(dice: Dice) -> tuple[list[str], str]:
    (words,) = _draw(dice)
    return words, dice.pick(words)


TEMPLATES = (
    Template("instruct", "repeat", _draw_repeat, _repeat),
    Template(
        "instruct", "reverse", _draw, _do("Write these words in reverse order", lambda words: " ".join(words[::-1])),
        family="line",
    ),
    Template(
        "instruct", "capitals", _draw, _do("Write this in capital letters", lambda words: " ".join(words).upper()),
        family="line",
    ),
    Template("instruct", "without", _draw_without, _without),
    Template(
        "instruct", "last_word", _draw, _do("Write only the last word of this line", lambda words: words[-1]),
        family="line",
    ),
    Template(
        "instruct", "first_word", _draw,
        _do("Write nothing but the word that comes first here", lambda words: words[0]), family="line", held_out=True,
    ),
)  # fmt: skip
