"""The gauntlet as documents, `prompt reference`, and back: the items of a token file, found by the documents' names.

The split goes by the item's key, so tuples never part; whole templates are held out in a part of their own, HELD_OUT.
What a token file holds must be what this version builds from the name, token by token, or it is refused: a checker of
another version would judge by other rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bloomery.data.corpus import Document
from bloomery.data.split import SplitRule
from bloomery.errors import DataError
from bloomery.evaluate.gauntlet.generate import VERSION, generate, item_named
from bloomery.evaluate.gauntlet.item import Item

if TYPE_CHECKING:
    from bloomery.data.tokenizer import Tokenizer
    from bloomery.data.tokens import TokenFile

HELD_OUT = "held_out"
"""The split of the held-out templates."""
_MARK = "held out: "


@dataclass(frozen=True, slots=True)
class GauntletItems:
    """A Source. shares: (category, share) pairs, where they are not equal."""

    examples: int
    seed: int = 0
    shares: tuple[tuple[str, float], ...] | None = None
    licence: str = "generated, no rights claimed"

    def documents(self) -> Iterator[Document]:
        for item in generate(self.examples, self.seed, None if self.shares is None else dict(self.shares)):
            yield document_of_item(item)

    def provenance(self) -> dict[str, Any]:
        shares = None if self.shares is None else dict(self.shares)
        return {
            "source": "gauntlet", "version": VERSION, "examples": self.examples, "seed": self.seed, "shares": shares,
            "learned": "answers", "licence": self.licence,
        }  # fmt: skip


def document_of_item(item: Item) -> Document:
    group = f"{_MARK}{item.key}" if item.held_out else item.key
    return Document(item.name, item.text, item.category, group, prompt=len(item.prompt))


def with_held_out(rule: SplitRule) -> SplitRule:
    """`rule` for all but the held-out templates."""
    return lambda group: HELD_OUT if group.startswith(_MARK) else rule(group)


def items_of(part: TokenFile, tokenizer: Tokenizer) -> list[Item]:
    """The items of a part, in its order. Raises DataError where it holds anything else."""
    items: list[Item] = []
    for index, name in enumerate(part.names):
        try:
            item = item_named(name)
        except DataError:
            found, hint = f"'{name[:60]}' is no item of the gauntlet", "name a part of a set with `source: gauntlet`"
            raise DataError(str(part.path), found, "gauntlet items", hint) from None
        items.append(item)
        if part.document(index)[:-1].tolist() != tokenizer.encode(item.text).tolist():
            found = f"'{name[:60]}' is not what this version builds"
            raise DataError(str(part.path), found, f"version {VERSION}", "delete the prepared data and run again")
    return items
