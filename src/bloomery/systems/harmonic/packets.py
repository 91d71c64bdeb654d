"""Packets of documents, and which of K specialists each of them belongs to. Pure; no model.

A packet is what one file says: all documents whose names begin alike up to `::`. It goes to the specialist whose
packets share most of what is rare in it, by `likeness` (evaluate/cascade/routing.py). K packets that share least with
each other, and say at least half of what the median one says, begin the specialists (farthest first: Gonzalez 1985);
the rest follow in their order, to specialists that hold less than their room, ROOM times an even share. Ties go to the
lower number. A query is routed as a cascade does it: to the specialist with the one packet that holds most of its
words, weighted by idf.

Packets can be added. The idf is that of the first packets and is kept, every packet stays where it is, and `grown` says
which specialists hold other packets than before, by their digests: those are to be trained again. Refuses fewer packets
than specialists, and a packet that is there already with another text.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bloomery.errors import DataError
from bloomery.evaluate.cascade.routing import Relevance, Words, likeness, words_of

ROOM = 1.5


def gathered(documents: Iterable[tuple[str, str]]) -> dict[str, str]:
    """{packet: its text} of (name, text) documents, in the order in which packets begin."""
    packets: dict[str, list[str]] = {}
    for name, text in documents:
        packets.setdefault(packet_of(name), []).append(text)
    return {name: "\n\n".join(texts) for name, texts in packets.items()}


def packet_of(document: str) -> str:
    return document.partition("::")[0]


@dataclass(frozen=True, slots=True)
class Shelf:
    """What each specialist holds."""

    specialists: int
    places: Mapping[str, int]
    """{packet: specialist}, in the order in which they came."""
    words: Mapping[str, Words]
    idf: Mapping[str, float]
    unheard: float
    """The idf of a word that stood in none of the first packets."""

    def weight(self, word: str) -> float:
        return self.idf.get(word, self.unheard)

    def held_by(self, specialist: int) -> tuple[str, ...]:
        return tuple(packet for packet, place in self.places.items() if place == specialist)

    def added(self, packets: Mapping[str, str]) -> Shelf:
        """With further packets, each where it belongs. Raises DataError for a packet that has changed."""
        places, words = dict(self.places), dict(self.words)
        holdings = _holdings(self)
        for name, text in packets.items():
            new = words_of(text)
            if name in places:
                if words[name] != new:
                    raise DataError(f"the packet {name}", "has another text than before", "a packet of another name")
                continue
            place = _best(new, holdings, self.weight)
            places[name], words[name] = place, new
            holdings[place].add(new)
        return Shelf(self.specialists, places, words, self.idf, self.unheard)

    def grown(self, before: Shelf) -> tuple[int, ...]:
        """Specialists that do not hold what they held."""
        return tuple(one for one in range(self.specialists) if self.digest(one) != before.digest(one))

    def digest(self, specialist: int) -> str:
        """sha256 of the names and words of what it holds, whatever their order."""
        held = [[name, sorted(self.words[name])] for name in sorted(self.held_by(specialist))]
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()

    def relevance(self) -> Relevance:
        """The router, of members called `0` to `K - 1`."""
        held = {str(one): [self.words[name] for name in self.held_by(one)] for one in range(self.specialists)}
        return Relevance.of(held)

    def to_json(self) -> dict[str, Any]:
        return {
            "specialists": self.specialists, "digests": [self.digest(one) for one in range(self.specialists)],
            "places": dict(self.places), "unheard": self.unheard,
            "words": {name: sorted(words) for name, words in self.words.items()}, "idf": dict(sorted(self.idf.items())),
        }  # fmt: skip

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Shelf:
        words = {name: frozenset(several) for name, several in content["words"].items()}
        return Shelf(content["specialists"], content["places"], words, content["idf"], content["unheard"])


def shelve(packets: Mapping[str, str], specialists: int) -> Shelf:
    """The first packets. Raises DataError where there are fewer than specialists."""
    if len(packets) < specialists:
        raise DataError("packets", f"{len(packets)} packets for {specialists} specialists", "one for each at least")
    words = {name: words_of(text) for name, text in packets.items()}
    counts = Counter(word for several in words.values() for word in several)
    total = math.log(1 + len(words))
    idf = {word: total - math.log(1 + count) for word, count in counts.items()}
    empty = Shelf(specialists, {}, words, idf, total)
    first = _farthest(words, specialists, empty.weight)
    places = {name: number for number, name in enumerate(first)}
    holdings = [_Holding.of([words[name]]) for name in first]
    room = math.ceil(ROOM * len(words) / specialists)
    for name, several in words.items():
        if name not in places:
            places[name] = _best(several, holdings, empty.weight, room)
            holdings[places[name]].add(several)
    return Shelf(specialists, {name: places[name] for name in words}, words, idf, total)


def route(relevance: Relevance, specialists: int, text: str) -> int:
    words = words_of(text)
    return max(range(specialists), key=lambda one: relevance(str(one), words))


@dataclass(slots=True)
class _Holding:
    """How many packets one specialist has, and how many of them have each word."""

    held: int
    counts: Counter[str]

    @staticmethod
    def of(packets: Iterable[Words]) -> _Holding:
        made = _Holding(0, Counter())
        for words in packets:
            made.add(words)
        return made

    def add(self, words: Words) -> None:
        self.held += 1
        self.counts.update(words)


def _holdings(shelf: Shelf) -> list[_Holding]:
    return [_Holding.of(shelf.words[name] for name in shelf.held_by(one)) for one in range(shelf.specialists)]


def _best(words: Words, holdings: list[_Holding], weight: Any, room: float = math.inf) -> int:
    open_ones = [number for number, one in enumerate(holdings) if one.held < room]
    return max(open_ones, key=lambda one: likeness(words, holdings[one].counts, holdings[one].held, weight))


def _farthest(words: Mapping[str, Words], count: int, weight: Any) -> list[str]:
    """The packet that weighs most, then always the one whose likeness to its nearest of the chosen is least.

    Of those only that weigh half the median or more: what says next to nothing is like nothing else, and nothing would
    gather around it."""

    def mass(several: Words) -> float:
        return math.fsum(map(weight, several))

    masses = {name: mass(several) for name, several in words.items()}
    bar = statistics.median(masses.values()) / 2
    heavier = sorted(words, key=lambda name: -masses[name])
    heavier = heavier[: max(count, sum(one >= bar for one in masses.values()))]
    chosen = heavier[:1]
    nearest = dict.fromkeys(heavier, 0.0)
    while len(chosen) < count:
        last = words[chosen[-1]]
        for name in heavier:
            both = mass(words[name] & last)
            whole = masses[name] + masses[chosen[-1]] - both
            nearest[name] = max(nearest[name], both / whole if whole > 0 else 1.0)
        chosen.append(min((name for name in heavier if name not in chosen), key=lambda name: nearest[name]))
    return chosen
