"""Mathematics: sums, products, differences in a story, linear equations. Held out: sums in a story.

Sums and products do not depend on the order of their operands, so neither do their keys.
"""

from __future__ import annotations

from bloomery.evaluate.gauntlet.answers import a_number
from bloomery.evaluate.gauntlet.item import Dice, Task, Template
from bloomery.evaluate.gauntlet.words import NAMES

THINGS = ("apple", "button", "candle", "coin", "key", "letter", "pencil", "ring", "shell", "stone")


def _number(question: str, result: int, *key: object) -> Task:
    return Task(question, str(result), a_number(result), key)


def _add(a: int, b: int) -> Task:
    return _number(f"What is {a} + {b}?", a + b, *sorted((a, b)))


def _multiply(a: int, b: int) -> Task:
    return _number(f"What is {a} times {b}?", a * b, *sorted((a, b)))


def _subtract(a: int, b: int, name: str, thing: str) -> Task:
    question = f"{name} has {a} {thing}s and gives {b} of them away. How many are left?"
    return _number(question, a - b, a, b)


def _linear(a: int, x: int, b: int) -> Task:
    return _number(f"Solve {a}x + {b} = {a * x + b} for x.", x, a, x, b)


def _add_in_words(a: int, b: int, one: str, other: str) -> Task:
    question = f"{one} found {a} coins and {other} found {b}. How many coins did they find together?"
    return _number(question, a + b, *sorted((a, b)))


def _difference(dice: Dice) -> tuple[int, int, str, str]:
    left, given = dice.between(1, 150), dice.between(1, 150)
    return left + given, given, dice.pick(NAMES), dice.pick(THINGS)


TEMPLATES = (
    Template("math", "add", lambda dice: (dice.between(2, 250), dice.between(2, 250)), _add, family="sum"),
    Template("math", "multiply", lambda dice: (dice.between(2, 99), dice.between(2, 30)), _multiply),
    Template("math", "subtract", _difference, _subtract),
    Template("math", "linear", lambda dice: (dice.between(2, 12), dice.between(2, 60), dice.between(1, 60)), _linear),
    Template(
        "math", "add_in_words",
        lambda dice: (dice.between(2, 250), dice.between(2, 250), *dice.sample(NAMES, 2)), _add_in_words,
        family="sum", held_out=True,
    ),
)  # fmt: skip
