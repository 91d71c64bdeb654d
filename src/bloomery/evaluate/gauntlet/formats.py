"""Format: JSON, a bulleted list, sorted values, `key=value` lines. Held out: a numbered list.

A parser decides about JSON (the same content in the order asked, nothing before or after it); the rest must be right to
the line. Fences of Markdown around an answer are not taken off: they were not asked for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from bloomery.evaluate.gauntlet.answers import MOST_CHARACTERS, exact_lines
from bloomery.evaluate.gauntlet.item import Check, Dice, Task, Template
from bloomery.evaluate.gauntlet.words import NAMES, PLACES, THINGS


def _json(name: str, count: int, thing: str, place: str) -> Task:
    content = {"name": name, "count": count, "thing": thing, "place": place}
    said = ", ".join(f"{key} {value}" for key, value in content.items())
    return Task(f"Write as one JSON object: {said}.", json.dumps(content), _same_json(content), tuple(content.values()))


def _same_json(content: Mapping[str, object]) -> Check:
    kinds = [type(value) for value in content.values()]

    def check(text: str) -> bool:
        if len(text) > MOST_CHARACTERS:
            return False
        try:
            pairs = json.loads(text, object_pairs_hook=tuple)
        except (ValueError, RecursionError):
            return False
        return pairs == tuple(content.items()) and [type(pair[1]) for pair in pairs] == kinds

    return check


def _bullets(things: list[str]) -> Task:
    lines = [f"- {thing}" for thing in things]
    question = f"Write as a list, one a line, each after a hyphen and a space: {', '.join(things)}."
    return Task(question, "\n".join(lines), exact_lines(lines), tuple(sorted(things)))


def _numbered(things: list[str]) -> Task:
    lines = [f"{number}. {thing}" for number, thing in enumerate(things, start=1)]
    question = f"Write as a numbered list (1. 2. 3.), one a line: {', '.join(things)}."
    return Task(question, "\n".join(lines), exact_lines(lines), tuple(sorted(things)))


def _sorted(things: list[str]) -> Task:
    line = ",".join(sorted(things))
    question = f"Write in alphabetical order, on one line, with commas and no spaces: {' '.join(things)}."
    return Task(question, line, exact_lines([line]), tuple(sorted(things)))


def _pairs(name: str, things: list[str], counts: list[int]) -> Task:
    lines = [f"{thing}={count}" for thing, count in zip(things, counts, strict=True)]
    said = " and ".join(f"{count} of {thing}" for thing, count in zip(things, counts, strict=True))
    question = f"{name} has {said}. Write one line THING=NUMBER for each, in that order."
    return Task(question, "\n".join(lines), exact_lines(lines), tuple(sorted(zip(things, counts, strict=True))))


def _draw_things(dice: Dice) -> tuple[list[str]]:
    return (dice.sample(THINGS, dice.between(3, 5)),)


def _draw_pairs(dice: Dice) -> tuple[str, list[str], list[int]]:
    things = dice.sample(THINGS, dice.between(2, 3))
    return dice.pick(NAMES), things, [dice.between(2, 60) for _ in things]


TEMPLATES = (
    Template(
        "format", "json",
        lambda dice: (dice.pick(NAMES), dice.between(2, 99), dice.pick(THINGS), dice.pick(PLACES)), _json,
    ),
    Template("format", "bullets", _draw_things, _bullets, family="list"),
    Template("format", "sorted", _draw_things, _sorted, family="list"),
    Template("format", "pairs", _draw_pairs, _pairs),
    Template("format", "numbered", _draw_things, _numbered, family="list", held_out=True),
)  # fmt: skip
