"""Reasoning: an order from its pairs, a chain of kinds, things that are moved, turns. Held out: an order by age.

No question can be answered by yes or no: a constant would be right half of the time (specs/data.md, section 4).
"""

from __future__ import annotations

from bloomery.evaluate.gauntlet.answers import a_name
from bloomery.evaluate.gauntlet.item import Dice, Task, Template
from bloomery.evaluate.gauntlet.words import KINDS, NAMES, PLACES, THINGS

PEOPLE = 5
DIRECTIONS = ("north", "east", "south", "west")
TURNS = {"right": 1, "around": 2, "left": 3}


def _order(people: list[str], told: list[int], rank: int, than: str, ranks: tuple[str, ...]) -> Task:
    facts = " ".join(f"{people[at]} is {than} than {people[at + 1]}." for at in told)
    answer = people[rank]
    return Task(f"{facts} Who is the {ranks[rank]}?", answer, a_name(answer, NAMES), (*people, rank), NAMES)


def _taller(people: list[str], told: list[int], rank: int) -> Task:
    ranks = ("tallest", "second tallest", "third tallest", "fourth tallest", "shortest")
    return _order(people, told, rank, "taller", ranks)


def _older(people: list[str], told: list[int], rank: int) -> Task:
    return _order(people, told, rank, "older", ("oldest", "second oldest", "third oldest", "fourth oldest", "youngest"))


def _chain(kinds: list[str], told: list[int], name: str) -> Task:
    """kinds: three in a chain, then two that have nothing to do with it."""
    a, b, c, d, e = kinds
    facts = (f"Every {a} is a {b}.", f"Every {b} is a {c}.", f"Every {d} is a {e}.")
    said = " ".join(facts[at] for at in told)
    question = f"{said} {name} is a {a}. Besides a {a} and a {b}, what is {name}?"
    return Task(question, c, a_name(c, KINDS), tuple(kinds), KINDS)


def _moved(things: list[str], names: list[str], moves: list[list[int]], places: list[str], asked: int) -> Task:
    """moves: (which thing, which place), in order."""
    where: dict[int, str] = {}
    facts: list[str] = []
    for turn, (thing, place) in enumerate(moves):
        verb, into = ("moves", "to") if thing in where else ("puts", "in")
        where[thing] = places[place]
        facts.append(f"{names[turn]} {verb} the {things[thing]} {into} the {places[place]}.")
    question = f"{' '.join(facts)} Where is the {things[asked]} now?"
    key = (*things, moves, *places, asked)
    return Task(question, where[asked], a_name(where[asked], PLACES), key, PLACES)


def _turned(start: int, turns: list[str]) -> Task:
    answer = DIRECTIONS[(start + sum(TURNS[turn] for turn in turns)) % 4]
    said = ", ".join(f"turn {turn}" for turn in turns)
    question = f"You face {DIRECTIONS[start]}, {said}. Which way do you face: north, east, south or west?"
    return Task(question, answer, a_name(answer, DIRECTIONS), (start, *turns), DIRECTIONS)


def _draw_order(dice: Dice) -> tuple[list[str], list[int], int]:
    return dice.sample(NAMES, PEOPLE), dice.shuffled(range(PEOPLE - 1)), dice.below(PEOPLE)


def _draw_moves(dice: Dice) -> tuple[list[str], list[str], list[list[int]], list[str], int]:
    things, places = dice.sample(THINGS, 2), dice.sample(PLACES, 4)
    moves = [[0, 0], [1, 1], [dice.below(2), 2], [dice.below(2), 3]]
    return things, dice.sample(NAMES, 4), moves, places, dice.below(2)


TEMPLATES = (
    Template("reasoning", "taller", _draw_order, _taller, family="order"),
    Template(
        "reasoning", "chain",
        lambda dice: (dice.sample(KINDS, 5), dice.shuffled(range(3)), dice.pick(NAMES)), _chain,
    ),
    Template("reasoning", "moved", _draw_moves, _moved),
    Template(
        "reasoning", "turned",
        lambda dice: (dice.below(4), [dice.pick(tuple(TURNS)) for _ in range(dice.between(3, 8))]), _turned,
    ),
    Template("reasoning", "older", _draw_order, _older, family="order", held_out=True),
)  # fmt: skip
