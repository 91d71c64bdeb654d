"""Votes on a cascade's answers, on disk: the log is the truth, and everything else is derived from it.

    FOLDER/votes.jsonl     every vote and every undoing, with the weights before and after (engine.events)
    FOLDER/weights.json    the weights that follow, replaced atomically
    FOLDER/answers.jsonl   every answer: its id, route and confidence, the connections of its prompt; no text
    FOLDER/lock            held by the one server that writes here

Opening a folder replays the log: the weights are those that were, to the last bit. The newest ANSWERS answers can be
voted on, and older ones that have a vote already. Refuses a folder that another server holds, and damaged lines.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from bloomery.engine.artifact import write_atomically
from bloomery.engine.events import FAULTS, Event, EventLog, illegible, read_events
from bloomery.engine.rundir import Lock
from bloomery.errors import ArtifactError
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.feedback import UNIT, TooMany, Unknown, Vote, Votes, thousandths
from bloomery.evaluate.cascade.routing import CONNECTIONS

VOTES, ANSWERED, WEIGHTS = "votes.jsonl", "answers.jsonl", "weights.json"
ANSWERS = 10_000
"""Answers that are remembered."""
MOST_VOTES = 32
"""On one answer, those that were replaced among them: each can still be undone, so each is kept."""

log = logging.getLogger(__name__)


class Ledger:
    """A context manager. `answered` belongs to one thread; `vote` and `undo` to any."""

    def __init__(self, folder: Path, card: Card) -> None:
        self.folder, self._card = folder, card
        self._votes = Votes(card.learning, card.names)
        self._answers: dict[str, tuple[str, tuple[int, ...]]] = {}
        """{answer: (member, connections)}, oldest first."""
        self._one_at_a_time = threading.Lock()
        self._held = ExitStack()
        self.weights: Mapping[str, tuple[float, ...]] = self._votes.weights()

    def __enter__(self) -> Self:
        """Raises ArtifactError."""
        self._held.enter_context(Lock(self.folder))
        try:
            self._replay()
            self._log, self._answer_log = EventLog(self.folder / VOTES), self._shortened(self.folder / ANSWERED)
            self._settle()
        except BaseException:
            self._held.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def answered(self, answer: str, connections: tuple[int, ...], told: Mapping[str, Any]) -> None:
        """Remember who answered. A disk that cannot take the line costs no answer."""
        self._remember(answer, told["member"], connections)
        facts = {"answer": answer, "connections": list(connections), **{k: v for k, v in told.items() if k != "id"}}
        try:
            if self._lines >= 2 * ANSWERS:
                self._answer_log = self._shortened(self._answer_log.file)
            self._answer_log.write("answer", sync=False, **facts)
            self._lines += 1
        except ArtifactError as error:
            log.warning("an answer is not in the log: %s", error)

    def vote(self, answer: str, score: float) -> dict[str, Any]:
        """Raises Unknown, TooMany; ArtifactError where it cannot be stored, and then it is not cast."""
        with self._one_at_a_time:
            stands = self._votes.on(answer)
            about = (stands.member, stands.connections) if stands else self._answers.get(answer)
            if about is None:
                raise Unknown(answer)
            if self._votes.count(answer) >= MOST_VOTES:
                raise TooMany(answer)
            vote = Vote(f"vote-{secrets.token_hex(8)}", answer, *about, thousandths(score))
            before = self._votes.weights_at(vote)
            self._votes.cast(vote)
            replaced = stands.event if stands else None
            try:
                self._log.write(
                    "vote", id=vote.event, answer=answer, member=vote.member, connections=list(vote.connections),
                    score=vote.score, replaces=replaced, before=before, after=self._votes.weights_at(vote),
                )  # fmt: skip
            except ArtifactError:
                self._votes.undo(vote.event)
                raise
            self._settle()
        score = vote.score / UNIT
        return {"event": vote.event, "id": answer, "member": vote.member, "score": score, "replaces": replaced}

    def undo(self, event: str) -> dict[str, Any]:
        """Raises Unknown; ArtifactError where it cannot be stored, and then it is not undone."""
        with self._one_at_a_time:
            vote = self._votes.event(event)
            before = self._votes.weights_at(vote)
            after = self._votes.weights_without(vote)
            self._log.write("undo", vote=event, before=before, after=after)
            self._votes.undo(event)
            self._settle()
        return {"event": event, "id": vote.answer, "deleted": True}

    def _remember(self, answer: str, member: str, connections: tuple[int, ...]) -> None:
        self._answers[answer] = member, connections
        while len(self._answers) > ANSWERS:
            del self._answers[next(iter(self._answers))]

    def _settle(self) -> None:
        self.weights = self._votes.weights()
        record = {"cascade": self._card.name, "connections": CONNECTIONS, "weights": self.weights}
        try:
            write_atomically(self.folder / WEIGHTS, json.dumps(record).encode())
        except ArtifactError as error:  # the log has it
            log.warning("%s is not current: %s", WEIGHTS, error)

    def _replay(self) -> None:
        for number, event in enumerate(read_events(self.folder / VOTES), start=1):
            try:
                if event["event"] == "undo":
                    self._votes.undo(event["vote"])
                else:
                    self._votes.cast(_vote(event))
            except (*FAULTS, Unknown) as error:
                raise illegible(event, f"{self.folder / VOTES}:{number}", error) from None
        for number, event in enumerate(read_events(self.folder / ANSWERED), start=1):
            try:
                self._remember(str(event["answer"]), str(event["member"]), _connections(event))
            except FAULTS as error:
                raise illegible(event, f"{self.folder / ANSWERED}:{number}", error) from None

    def _shortened(self, file: Path) -> EventLog:
        """The log of answers, without those that are long forgotten."""
        lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
        if len(lines) >= 2 * ANSWERS:
            lines = lines[-ANSWERS:]
            write_atomically(file, b"".join(lines))
        self._lines = len(lines)
        return EventLog(file)


def _vote(event: Event) -> Vote:
    if event["event"] != "vote" or not isinstance(event["score"], int) or abs(event["score"]) > UNIT:
        raise ValueError("no vote")
    return Vote(str(event["id"]), str(event["answer"]), str(event["member"]), _connections(event), event["score"])


def _connections(event: Event) -> tuple[int, ...]:
    found = tuple(event["connections"])
    if not found or not all(isinstance(each, int) and 0 <= each < CONNECTIONS for each in found):
        raise ValueError(f"connections are numbers below {CONNECTIONS}")
    return found
