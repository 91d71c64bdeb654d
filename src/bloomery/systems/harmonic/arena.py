"""The arena: rounds of questions on one axis each, answered by every competitor, judged by the question's checker.

    first half    rounds on axes drawn at random, in turn: ratings, and the control
    second half   as many rounds on the `weakest` of them, where the first competitor's rating is lowest

The first competitor is the model that is to learn, at temperature 0. Its lesson from a question is the winner's answer,
checked: of those who are right the one with the highest rating on the axis, of equals the first. Where nobody is right
the reference may stand in (rationalisation, STaR: Zelikman et al. 2022, arXiv 2203.14465), and its origin says so.

    yield = questions that the first competitor missed and another answered rightly / questions asked

on the weakest axes, against the same on as many questions of axes drawn at random. Which axes are weakest is decided by
the first half alone, so neither share is chosen by the answers that it counts.

All of it is a pure function of the seed and of what the competitors say. Axes are ranked by noisy ratings of few
questions. No tuple is asked twice while its axis has others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bloomery.data.examples import Example
from bloomery.evaluate.gauntlet.generate import item_named
from bloomery.evaluate.gauntlet.item import Dice, Item
from bloomery.systems.harmonic.axes import Axis, Side, draw, some
from bloomery.systems.harmonic.ratings import ratings

MOST_REPEATS = 50


@dataclass(frozen=True, slots=True)
class Rules:
    seed: object
    axes: int
    rounds: int
    questions: int
    """Of a round."""
    weakest: int
    """Axes of the second half."""
    directed: bool = True
    """False: the second half is played on random axes too."""
    references: bool = True
    """Whether the reference stands in where nobody is right."""

    @property
    def first_half(self) -> int:
        return (self.rounds + 1) // 2


@dataclass(frozen=True, slots=True)
class Round:
    axis: str
    items: tuple[str, ...]
    """Names of the questions."""
    answers: tuple[tuple[str, ...], ...]
    """[competitor][question]"""
    right: tuple[tuple[bool, ...], ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Round:
        answers, right = (tuple(map(tuple, row[key])) for key in ("answers", "right"))
        return Round(row["axis"], tuple(row["items"]), answers, right)


@dataclass(frozen=True, slots=True)
class Lesson:
    example: Example
    won: bool
    """A competitor's own answer, not the reference."""


class Arena:
    """What was played so far, and what follows from it."""

    def __init__(self, rules: Rules, side: Side) -> None:
        self.rules, self._side = rules, side
        self.axes = some(rules.axes, Dice("arena", rules.seed, "axes"))
        self.rounds: list[Round] = []
        self._asked: set[str] = set()

    def next_axis(self) -> Axis:
        number = len(self.rounds)
        if number < self.rules.first_half:
            return self.axes[number % len(self.axes)]
        if self.rules.directed:
            axes = self.weakest()
            return axes[(number - self.rules.first_half) % len(axes)]
        return Dice("arena", self.rules.seed, "random", number).pick(self.axes)

    def next_questions(self) -> list[Item]:
        """Raises DataError where the axis has no more questions on the training side."""
        axis, number = self.next_axis(), len(self.rounds)
        dice = Dice("arena", self.rules.seed, axis.name, number)
        items: list[Item] = []
        for _ in range(MOST_REPEATS * self.rules.questions):
            item = draw(axis, dice, self._side)
            if item.key not in self._asked and item.key not in {one.key for one in items}:
                items.append(item)
            if len(items) == self.rules.questions:
                break
        return items or [draw(axis, dice, self._side)]

    def play(self, items: Sequence[Item], answers: Sequence[Sequence[str]]) -> None:
        """answers: [competitor][question], to what `next_questions` gave."""
        right = [[item.accepts(text) for item, text in zip(items, own, strict=True)] for own in answers]
        axis = self.next_axis().name
        names = tuple(item.name for item in items)
        self.add(Round(axis, names, tuple(map(tuple, answers)), tuple(map(tuple, right))))

    def add(self, played: Round) -> None:
        self.rounds.append(played)
        self._asked.update(item_named(name).key for name in played.items)

    def ratings(self, rounds: Sequence[Round] | None = None) -> dict[str, list[float]]:
        """{axis: points of each competitor}, of the axes played."""
        outcomes: dict[str, list[tuple[bool, ...]]] = {}
        for one in self.rounds if rounds is None else rounds:
            outcomes.setdefault(one.axis, []).extend(zip(*one.right, strict=True))
        return {axis: ratings(several) for axis, several in outcomes.items()}

    def weakest(self) -> list[Axis]:
        """The axes of the second half, the weakest first, of equals the one drawn first. Needs the first half."""
        found = self.ratings(self.rounds[: self.rules.first_half])
        played = [axis for axis in self.axes if axis.name in found]
        return sorted(played, key=lambda axis: found[axis.name][0])[: self.rules.weakest]

    def lessons(self) -> list[Lesson]:
        """Of every question that was asked on the weakest axes, in whichever half; undirected, of the second half."""
        points = self.ratings()
        if self.rules.directed:
            axes = {axis.name for axis in self.weakest()}
            rounds = [(number, one) for number, one in enumerate(self.rounds) if one.axis in axes]
        else:
            rounds = list(enumerate(self.rounds))[self.rules.first_half :]
        return [
            lesson
            for number, one in rounds
            for place in range(len(one.items))
            if (lesson := self._lesson(one, number, place, points[one.axis])) is not None
        ]

    def _lesson(self, one: Round, number: int, place: int, points: Sequence[float]) -> Lesson | None:
        item = item_named(one.items[place])
        origin: dict[str, Any] = {"item": item.name, "axis": one.axis, "round": number}
        able = [player for player, own in enumerate(one.right) if own[place]]
        if able:
            winner = max(able, key=lambda player: points[player])  # the first of equals
            response = one.answers[winner][place].strip()
            return Lesson(Example(item.prompt, response, item.category, {**origin, "winner": winner}), True)
        if not self.rules.references:
            return None
        return Lesson(Example(item.prompt, item.reference, item.category, {**origin, "winner": "reference"}), False)

    def news(self) -> tuple[list[bool], list[bool]]:
        """(first half, second half): of every question, whether only others than the first competitor were right."""
        half = self.rules.first_half
        return _news(self.rounds[:half]), _news(self.rounds[half:])


def _news(rounds: Sequence[Round]) -> list[bool]:
    return [any(others) and not first for one in rounds for first, *others in zip(*one.right, strict=True)]
