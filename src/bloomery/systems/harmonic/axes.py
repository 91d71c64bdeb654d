"""The axes of the arena: every template of the gauntlet that is not held out, in three difficulties.

    axis = category / template / low | middle | high

How hard a question is, is its size: SIZES where numbers say it (the sum, the shift, how far facts are out of order),
and its length in characters, question and reference, where they do not and between equals. The bands are the thirds of
SAMPLE fixed draws of the template, so an axis is the same in every run; that its size makes a question hard for a model
is an assumption, which the ratings show or refute.

Only the training side is asked: no held-out template, and no tuple that the split rule of the plan's gauntlet sends
elsewhere, or that stands in another of its parts (`side`). Refuses a set that is no gauntlet.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from bloomery.data.split import ON_DEMAND, bucket_rule, share_rule
from bloomery.errors import DataError
from bloomery.evaluate.gauntlet.generate import TEMPLATES, item_named, sound
from bloomery.evaluate.gauntlet.item import CATEGORIES, Dice, Item, build

if TYPE_CHECKING:
    from bloomery.data.prepared import Prepared

DIFFICULTIES = ("low", "middle", "high")
SAMPLE = 300
"""Draws that the bands of a template are cut from."""
TRIES = 1000


def _inversions(order: list[int]) -> int:
    return sum(a > b for at, a in enumerate(order) for b in order[at + 1 :])


def _days_before(ordinal: int) -> int:
    import datetime

    return datetime.date.fromordinal(ordinal).timetuple().tm_yday


def _days_of_month(year: int, month: int, day: int) -> int:
    """Beyond four weeks: by how many the weekday moves on."""
    import calendar

    return calendar.monthrange(year, month)[1] - 28


def _since_moved(things: Any, names: Any, moves: list[list[int]], places: Any, asked: int) -> int:
    """Sentences between the last move of what is asked for and the question."""
    return len(moves) - 1 - max(at for at, (thing, _) in enumerate(moves) if thing == asked)


SIZES: Mapping[str, Callable[..., float]] = {
    "math/add": lambda a, b: a + b,
    "math/multiply": lambda a, b: a * b,
    "math/subtract": lambda a, b, name, thing: a,
    "math/linear": lambda a, x, b: a * x + b,
    "factual/month_after": lambda month, shift: shift,
    "factual/day_of_year": _days_before,
    "factual/weekday": _days_of_month,
    "reasoning/taller": lambda people, told, rank: _inversions(told),
    "reasoning/chain": lambda kinds, told, name: _inversions(told),
    "reasoning/moved": _since_moved,
}
"""{template: the size of its parameters}; of the others, what is read and written is the size."""


@dataclass(frozen=True, slots=True)
class Axis:
    category: str
    template: str
    difficulty: str

    @property
    def name(self) -> str:
        return f"{self.category}/{self.template}/{self.difficulty}"


AXES: tuple[Axis, ...] = tuple(
    Axis(template.category, template.name, difficulty)
    for template in TEMPLATES.values()
    if not template.held_out
    for difficulty in DIFFICULTIES
)

Size = tuple[float, int]


def size(item: Item) -> Size:
    """(by its numbers, by its length in characters): compared in that order."""
    measure = SIZES.get(f"{item.category}/{item.template}", lambda *_: 0.0)
    parameters = json.loads(item.name.partition(" ")[2])
    return float(measure(*parameters)), len(item.task.question) + len(item.reference)


@cache
def bounds(template: str) -> tuple[Size, Size]:
    """Where the second and the last third of the template's questions begin."""
    one, dice = TEMPLATES[template], Dice("bands", template)
    sizes = sorted(size(build(one, one.draw(dice))) for _ in range(SAMPLE))
    return sizes[SAMPLE // 3], sizes[2 * SAMPLE // 3]


def axis_of(item: Item) -> Axis:
    place = bisect_right(bounds(f"{item.category}/{item.template}"), size(item))
    return Axis(item.category, item.template, DIFFICULTIES[place])


Side = Callable[[str], bool]
"""Whether a tuple (Item.key) is on the training side."""


def draw(axis: Axis, dice: Dice, side: Side) -> Item:
    """A question of the axis that may be asked. Raises DataError where TRIES draws gave none."""
    template = TEMPLATES[f"{axis.category}/{axis.template}"]
    for _ in range(TRIES):
        item = build(template, template.draw(dice))
        if axis_of(item) == axis and side(item.key) and sound(item):
            return item
    found = f"{TRIES} draws gave no question of the training side"
    raise DataError(f"the axis {axis.name}", found, "a larger `train` share under `split`")


def training_side(prepared: Prepared, name: str) -> Side:
    """Of the gauntlet `name` of the plan's data. Raises DataError where it is no gauntlet, or has no train part."""
    splits = prepared.splits(name)
    record = prepared.manifest["spec"]["sets"][name]
    if record["source"] != "gauntlet" or "train" not in splits:
        what = "it has no part 'train'" if record["source"] == "gauntlet" else f"its source is {record['source']}"
        raise DataError(f"data.{name}", what, "a set with `source: gauntlet` and a train part")
    rule = share_rule(record["split"]) if record["split"] else bucket_rule(one for one in ON_DEMAND if one in splits)
    gauntlets = [one for one, about in prepared.manifest["spec"]["sets"].items() if about["source"] == "gauntlet"]
    parts = [f"{one}:{split}" for one in gauntlets for split in prepared.splits(one) if split != "train"]
    others = [part for part in parts if prepared.documents(part)]
    elsewhere = {item_named(one).key for part in others for one in prepared.part(part).names}
    return lambda key: rule(key) == "train" and key not in elsewhere


def some(count: int, dice: Dice) -> tuple[Axis, ...]:
    """`count` different axes: from every category in turn, so that each has as many as the others while it lasts."""
    waiting = [dice.shuffled([axis for axis in AXES if axis.category == one]) for one in CATEGORIES]
    found: list[Axis] = []
    while len(found) < count:
        for several in waiting[: count - len(found)]:
            found.append(several.pop())
        waiting = [several for several in waiting if several]
    return tuple(found)
