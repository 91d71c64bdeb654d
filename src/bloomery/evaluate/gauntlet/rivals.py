"""What an accuracy has to beat: the best constant answer, and the answer of another item.

Both are references. The constant is chosen on items to train on, by how many of them it solves, and judged on others.
Whether a reference solves another item is asked of the other's checker; programs are compared by what they
compute, so that none has to be run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bloomery.evaluate.gauntlet.item import Item

CANDIDATES = 24
"""Constants that are tried: the references that occur most often."""
FITTED_ON = 500
"""Items that they are tried on at most, evenly spread."""


def solves(other: Item, item: Item) -> bool:
    """Whether the reference of `other` is a right answer to `item`."""
    if item.category == "code":
        return other.key == item.key
    return item.accepts(other.reference)


def best_constant(items: Sequence[Item]) -> Item:
    """The item whose reference solves most of `items`, all of one category; of equals the first by name."""
    assert items
    counts = Counter(item.reference for item in items)
    first = {item.reference: item for item in reversed(items)}
    often = sorted(counts, key=lambda reference: (-counts[reference], reference))[:CANDIDATES]
    step = max(1, -(-len(items) // FITTED_ON))
    return max((first[one] for one in often), key=lambda one: sum(solves(one, item) for item in items[::step]))


def others(items: Sequence[Item]) -> list[Item]:
    """For each item another one of the same category: the next, and for the last the first."""
    return [*items[1:], *items[:1]]
