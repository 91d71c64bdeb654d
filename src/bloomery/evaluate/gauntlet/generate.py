"""The set: as many items of every category as asked for, each tuple once, answers as even as its templates allow.

Of each template a pool is drawn, three times as large as needed, and items are taken from it answer by answer in turn,
so that no answer is much more frequent than others. Left out are items that one of `item.junk` would solve, and those
whose reference their own checker refuses (in `creative`; programs are not run for it, a test does that).
Items of held-out templates come on top, a tenth of their category, of tuples that no other item has.

The same seed and number give the same set under every Python; VERSION changes whenever they no longer do.
Refuses more items than the templates have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache

from bloomery.errors import DataError
from bloomery.evaluate.gauntlet import (
    arithmetic,
    coding,
    counting,
    creative,
    factual,
    formats,
    instruct,
    reasoning,
)
from bloomery.evaluate.gauntlet.item import CATEGORIES, Dice, Item, Template, build, junk

VERSION = 1
HELD_OUT = 0.1
"""Items of held-out templates, as a share of their category's others."""
POOL, TRIES = 3, 12
"""How many are drawn for one that is taken, and how often at most where most have been drawn before."""

_MODULES = (arithmetic, factual, reasoning, counting, coding, formats, instruct, creative)
TEMPLATES: Mapping[str, Template] = {one.full_name: one for module in _MODULES for one in module.TEMPLATES}


def item_named(name: str) -> Item:
    """The item of this name. Raises DataError for a name that no item of this version has."""
    template, _, parameters = name.partition(" ")
    try:
        return build(TEMPLATES[template], json.loads(parameters))
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError):
        raise DataError("gauntlet", f"no item is called '{name[:60]}'", "CATEGORY/TEMPLATE [parameters]") from None


def sound(item: Item) -> bool:
    """Whether it may be asked."""
    right = item.category == "code" or item.accepts(item.reference)
    return right and not any(item.accepts(text) for text in junk(item))


def generate(examples: int, seed: int = 0, shares: Mapping[str, float] | None = None) -> tuple[Item, ...]:
    """`examples` items, those of held-out templates not counted, in mixed order.

    shares: {category: its share}; without it all eight are equal. Raises DataError where a category has not so many.
    """
    return _generate(examples, seed, tuple(shares.items()) if shares is not None else None)


@lru_cache(maxsize=4)
def _generate(examples: int, seed: int, shares: tuple[tuple[str, float], ...] | None) -> tuple[Item, ...]:
    parts = dict(shares) if shares is not None else dict.fromkeys(CATEGORIES, 1 / len(CATEGORIES))
    found: list[Item] = []
    for category, count in _counts(examples, parts).items():
        seen: set[str] = set()
        for held_out in (False, True):
            templates = [one for one in TEMPLATES.values() if one.category == category and one.held_out is held_out]
            wanted = round(count * HELD_OUT) if held_out else count
            found += _of_templates(templates, wanted, seed, seen)
    return tuple(Dice("order", seed).shuffled(found))


def _counts(examples: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers in the proportion of the shares that add up to `examples`."""
    bounds = [0.0]
    for share in shares.values():
        bounds.append(bounds[-1] + share)
    places = [round(examples * bound / bounds[-1]) for bound in bounds]
    return {name: places[at + 1] - places[at] for at, name in enumerate(shares)}


def _of_templates(templates: Sequence[Template], wanted: int, seed: int, seen: set[str]) -> list[Item]:
    """Evenly from each; what one has too few of the next ones make good."""
    found: list[Item] = []
    for turn in (0, 1):
        for place, template in enumerate(templates):
            left = wanted - len(found)
            share = left if turn else -(-left // (len(templates) - place))
            found += _of_template(template, share, Dice("gauntlet", seed, template.full_name, turn), seen)
    if len(found) < wanted:
        several = f"{len(found)} different items of '{templates[0].category}'"
        raise DataError(
            "gauntlet", several, f"{wanted}, as its share of the examples asks for", "ask for fewer examples"
        )
    return found


def _of_template(template: Template, wanted: int, dice: Dice, seen: set[str]) -> list[Item]:
    by_answer: dict[str, list[Item]] = {}
    drawn: set[str] = set()
    for _ in range(TRIES * wanted):
        if len(drawn) == POOL * wanted:
            break
        item = build(template, template.draw(dice))
        if item.key not in drawn and item.key not in seen:
            drawn.add(item.key)
            by_answer.setdefault(item.reference, []).append(item)
    taken: list[Item] = []
    waiting = list(by_answer.values())
    while waiting and len(taken) < wanted:
        for queue in waiting[: wanted - len(taken)]:
            if sound(item := queue.pop(0)):
                taken.append(item)
        waiting = [queue for queue in waiting if queue]
    seen.update(item.key for item in taken)
    return taken
