"""Counting: letters of a string, items of a list, one word among others, even numbers. Held out: words of a line.

How many there are is drawn first, from 2 to 16 or so, and the rest made to fit, so that the answers are even.
"""

from __future__ import annotations

from bloomery.evaluate.gauntlet.answers import a_number
from bloomery.evaluate.gauntlet.item import Dice, Task, Template
from bloomery.evaluate.gauntlet.words import THINGS

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _count(question: str, count: int, *key: object) -> Task:
    return Task(question, str(count), a_number(count), key)


def _letters(letter: str, word: str) -> Task:
    question = f"How many times does the letter {letter} occur in {word}?"
    return _count(question, word.count(letter), letter, "".join(sorted(word)))


def _things(things: list[str]) -> Task:
    return _count(f"How many things are in this list: {', '.join(things)}?", len(things), *sorted(things))


def _words(things: list[str]) -> Task:
    return _count(f"Count the words of this line: {' '.join(things)}", len(things), *sorted(things))


def _word(wanted: str, words: list[str]) -> Task:
    question = f"How often does the word {wanted} occur here: {' '.join(words)}?"
    return _count(question, words.count(wanted), wanted, *sorted(words))


def _even(numbers: list[int]) -> Task:
    listed = " ".join(map(str, numbers))
    return _count(f"How many of these numbers are even: {listed}?", sum(n % 2 == 0 for n in numbers), *sorted(numbers))


def _draw_letters(dice: Dice) -> tuple[str, str]:
    letter, *others = dice.sample(LETTERS, 5)
    count = dice.between(1, 10)
    rest = [dice.pick(others) for _ in range(dice.between(3, 8))]
    return letter, "".join(dice.shuffled([letter] * count + rest))


def _draw_things(dice: Dice) -> tuple[list[str]]:
    return (dice.sample(THINGS, dice.between(4, 18)),)


def _draw_word(dice: Dice) -> tuple[str, list[str]]:
    wanted, *others = dice.sample(THINGS, 4)
    rest = [dice.pick(others) for _ in range(dice.between(2, 6))]
    return wanted, dice.shuffled([wanted] * dice.between(2, 12) + rest)


def _draw_even(dice: Dice) -> tuple[list[int]]:
    even, odd = dice.between(2, 12), dice.between(1, 6)
    numbers = [2 * dice.between(1, 49) for _ in range(even)] + [2 * dice.between(0, 49) + 1 for _ in range(odd)]
    return (dice.shuffled(numbers),)


TEMPLATES = (
    Template("counting", "letters", _draw_letters, _letters),
    Template("counting", "things", _draw_things, _things, family="list"),
    Template("counting", "word", _draw_word, _word),
    Template("counting", "even", _draw_even, _even),
    Template("counting", "words", _draw_things, _words, family="list", held_out=True),
)
