"""In which order a cascade's members are asked one prompt.

    relevance(m, prompt) = max over packets p of m of  sum of idf(w), w in prompt and p  /  sum of idf(w), w in prompt
    idf(w) = ln((1 + N) / (1 + packets with w)),  N packets of all members together

(inverse document frequency: Sparck Jones 1972). `ordered`: as declared. `idf`: members with packets share their places
among themselves, the most relevant first; members without keep theirs. `learned`: by strength, place 0 being where idf
puts the first of M members,

    strength(m, prompt) = 1 - place(m) / M + mean of weight(m, c), c the prompt's connections,

so without votes it is the order of idf, and votes have to outweigh the distance of two places. The connections of a
prompt are one that every prompt has, and one of 128 for each of its words, by a hash. `last` is asked last. Ties go to
whoever was declared first. Where a card tells prompts that ask for facts from others, the most relevant of the members
with packets is asked such a prompt before all. Words are runs of letters, digits and underscores, whatever their case.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from bloomery.evaluate.cascade.card import Card

BUCKETS = 128
CONNECTIONS = 1 + BUCKETS
"""Of each member: one for every prompt, then those of words."""

FACT, OTHER = "fact", "other"
Words = frozenset[str]


def words_of(text: str) -> Words:
    return frozenset(re.findall(r"\w+", text.casefold()))


def packets_of(text: str) -> list[Words]:
    """The words of each paragraph that has any."""
    return [words for part in re.split(r"\n\s*\n", text) if (words := words_of(part))]


def connections_of(words: Set[str]) -> tuple[int, ...]:
    """Numbers below CONNECTIONS, ascending."""
    hashes = (hashlib.blake2b(word.encode(), digest_size=8).digest() for word in words)
    return tuple(sorted({0} | {1 + int.from_bytes(each) % BUCKETS for each in hashes}))


@dataclass(frozen=True, slots=True)
class Relevance:
    """The packets of members, and how much each of their words says."""

    packets: Mapping[str, Sequence[Words]]
    idf: Mapping[str, float]
    unheard: float
    """The idf of a word that stands in no packet."""
    prompts: Relevance | None = None
    """Of the two kinds of prompts, FACT and OTHER, where a card tells them apart."""

    @staticmethod
    def of(packets: Mapping[str, Sequence[Words]], prompts: Relevance | None = None) -> Relevance:
        """packets: of each member that has some."""
        every = [packet for several in packets.values() for packet in several]
        counts = Counter(word for packet in every for word in packet)
        total = math.log(1 + len(every))
        return Relevance(packets, {word: total - math.log(1 + count) for word, count in counts.items()}, total, prompts)

    def __call__(self, member: str, words: Set[str]) -> float:
        """From 0, nothing in common, to 1: a packet has every word that says something."""
        whole = math.fsum(self._idf(word) for word in words)
        if whole <= 0:
            return 0.0
        shared = (math.fsum(self._idf(word) for word in words & packet) for packet in self.packets.get(member, ()))
        return max(shared, default=0.0) / whole

    def with_packet(self, member: str, packet: Words) -> Relevance:
        """One packet more. What words say stays as it was, so that no other packet is judged anew."""
        held = {**self.packets, member: (*self.packets.get(member, ()), packet)}
        return Relevance(held, self.idf, self.unheard, self.prompts)

    def is_fact(self, words: Set[str]) -> bool:
        """Whether some prompt that asks for a fact is more like it than any other prompt is."""
        return self.prompts is not None and self.prompts(FACT, words) > self.prompts(OTHER, words)

    def nearest(self, packet: Words) -> str:
        """The member with packets that a further one belongs to."""

        def like(member: str) -> float:
            held = self.packets[member]
            counts = Counter(word for each in held for word in each & packet)
            return likeness(packet, counts, len(held), self._idf)

        return max(self.packets, key=like)

    def _idf(self, word: str) -> float:
        return self.idf.get(word, self.unheard)


def likeness(packet: Words, counts: Mapping[str, int], held: int, weight: Callable[[str], float]) -> float:
    """How much of what is rare in a packet is said by others: from 0, nothing, to 1, each of them says it all.

    sum of weight(w) * share of those `held` that have w, by `counts`,  /  sum of weight(w),  over w in the packet
    """
    whole = math.fsum(map(weight, packet))
    if whole <= 0:
        return 0.0
    return math.fsum(weight(word) * counts.get(word, 0) for word in packet) / held / whole


def route(card: Card, relevance: Relevance, words: Set[str], weights: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Names in the order in which they are asked. weights: CONNECTIONS numbers for each member, for `learned` only."""
    names = [member.name for member in card.members]
    if card.routing != "ordered":
        places = [place for place, member in enumerate(card.members) if member.packets]
        experts = sorted((names[place] for place in places), key=lambda name: -relevance(name, words))
        for place, name in zip(places, experts, strict=True):
            names[place] = name
    if card.routing == "learned":
        used = connections_of(words)
        strength = {
            name: 1 - place / len(names) + math.fsum(weights[name][each] for each in used) / len(used)
            for place, name in enumerate(names)
        }
        names = sorted((member.name for member in card.members), key=lambda name: -strength[name])
    if relevance.is_fact(words):
        nearest = max(relevance.packets, key=lambda name: relevance(name, words))
        names = [nearest, *(name for name in names if name != nearest)]
    return (*names[: card.most], *((card.last.name,) if card.last else ()))
