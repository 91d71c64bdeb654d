"""Packets that come while a cascade is served, on disk: the documents are the truth, the log says where they went.

    FOLDER/documents/ID.txt   the text of each, whole or not there; ID begins the sha256 of its words in their order
    FOLDER/packets.jsonl      for each: id, the name under which it came, the member that it went to (engine.events)
    FOLDER/lock               held by the one server that writes here

A packet goes to the member whose own packets say most of what is rare in it (evaluate/cascade/routing.py), and that
member is asked what is nearest to it from then on; no model has learned it before that member is trained again. For
that, `documents` is the folder of a set that a plan adds (`added` of harmonic/packets and harmonic/cascade); `grown`
says which members are to be trained again: those whose digest, over the words of all their packets, is no longer that
of the cascade as it was made. What a cascade's own packets hold already is not added: it was learned since.

Opening a folder brings every packet back to where it was, whenever the last server was killed. Refuses a folder that
another server holds, damaged lines, cascades none of whose members has packets, texts without a word or above LARGEST.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from bloomery.engine.artifact import write_atomically
from bloomery.engine.events import FAULTS, EventLog, illegible, read_events
from bloomery.engine.rundir import Lock
from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.routing import Relevance, Words, words_of

DOCUMENTS, PLACES = "documents", "packets.jsonl"
LARGEST = 2**20
"""Characters of a packet."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a member holds now, and held when its cascade was made."""

    member: str
    packets: int
    added: int
    digest: str
    learned: str
    """The digest of what it was trained on."""

    @property
    def grown(self) -> bool:
        return self.digest != self.learned


class Additions:
    """A context manager. `add` may be called on any thread; `relevance` is replaced whole, never changed."""

    def __init__(self, folder: Path, card: Card, relevance: Relevance) -> None:
        self.folder, self._own = folder, relevance
        self._names = {member.name for member in card.members if member.packets}
        self._cascade = card.name
        self._one_at_a_time = threading.Lock()
        self._held = ExitStack()
        self._places: dict[str, str] = {}
        """{id: member}, those that were learned since excepted."""
        self.relevance = relevance

    def __enter__(self) -> Self:
        """Raises ArtifactError."""
        self._held.enter_context(Lock(self.folder))
        try:
            for left in (self.folder / DOCUMENTS).glob(".*.tmp"):  # of a server that was killed while it wrote
                left.unlink()
            self._log = EventLog(self.folder / PLACES)
            for one, name, text, member in _stored(self.folder):
                if one not in self._places and not _learned(self._own, words_of(text)):
                    self._put(one, name, words_of(text), member)
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def add(self, name: str, text: str) -> dict[str, Any]:
        """Route a packet from now on; the same words again change nothing.

        Raises DataError for what is no packet, ArtifactError where it cannot be stored: then nothing has changed."""
        if not self._names:
            raise DataError(f"cascade {self._cascade}", "none of its members has packets", "a member with `packets`")
        if len(text) > LARGEST:
            raise DataError("text", f"{len(text):,} characters", f"{LARGEST:,} at most")
        words, one = words_of(text), identity(text)
        if not words:
            raise DataError("text", f"no words in {len(text):,} characters", "words")
        with self._one_at_a_time:
            if (place := self._places.get(one)) is not None:
                return {"id": one, "name": name, "member": place, "new": False}
            if (member := _learned(self._own, words)) is not None:
                return {"id": one, "name": name, "member": member, "new": False}
            file = self.folder / DOCUMENTS / f"{one}.txt"
            write_atomically(file, text.encode())
            try:
                self._put(one, name, words, None)
            except ArtifactError:
                file.unlink()
                raise
            return {"id": one, "name": name, "member": self._places[one], "new": True}

    def holdings(self) -> list[Holding]:
        with self._one_at_a_time:
            return _holdings(self._own, self.relevance)

    def _put(self, one: str, name: str, words: Words, member: str | None) -> None:
        place = member if member in self._names else self.relevance.nearest(words)
        if place != member:
            self._log.write("packet", id=one, name=name, member=place)
        self._places[one] = place
        self.relevance = self.relevance.with_packet(place, words)


def grown(relevance: Relevance, folder: Path) -> tuple[str, ...]:
    """Members of a cascade (its `relevance`, as cascades.relevance_of reads it) that are to be trained again for what
    lies in FOLDER. Reads only: a server may be writing there. Raises ArtifactError."""
    now = relevance
    for _, _, text, member in _stored(folder):
        words = words_of(text)
        if _learned(relevance, words) is None:
            kept = member if member is not None and member in relevance.packets else None
            now = now.with_packet(kept or now.nearest(words), words)
    return tuple(one.member for one in _holdings(relevance, now) if one.grown)


def identity(text: str) -> str:
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]


def digest(packets: Sequence[Words]) -> str:
    """sha256 of the words of packets, whatever their order."""
    return hashlib.sha256(json.dumps(sorted(sorted(words) for words in packets)).encode()).hexdigest()


def _holdings(own: Relevance, now: Relevance) -> list[Holding]:
    return [
        Holding(member, len(held), len(held) - len(own.packets[member]), digest(held), digest(own.packets[member]))
        for member, held in now.packets.items()
    ]


def _learned(own: Relevance, words: Words) -> str | None:
    """The member that was trained on it."""
    return next((member for member, held in own.packets.items() if words in held), None)


def _stored(folder: Path) -> Iterator[tuple[str, str, str, str | None]]:
    """(id, name, text, member or None where nobody noted one), in the order in which they were noted."""
    noted: dict[str, Mapping[str, Any]] = {}
    for number, event in enumerate(read_events(folder / PLACES), start=1):
        try:
            noted[str(event["id"])] = {"name": str(event["name"]), "member": str(event["member"])}
        except FAULTS as error:
            raise illegible(event, f"{folder / PLACES}:{number}", error) from None
    there = {file.stem: file for file in sorted((folder / DOCUMENTS).glob("*.txt"))}
    for one in [*(one for one in noted if one in there), *(one for one in there if one not in noted)]:
        try:
            text = there[one].read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ArtifactError(str(there[one]), f"cannot be read ({error})", "a text that a server wrote") from None
        yield one, noted.get(one, {}).get("name", one), text, noted.get(one, {}).get("member")
