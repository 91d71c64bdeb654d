"""Votes on a cascade's answers, on disk: the log is the truth, and everything else is derived from it.

    FOLDER/votes.jsonl     every vote and every undoing, with the weights before and after (engine.events)
    FOLDER/weights.json    the weights that follow, replaced atomically
    FOLDER/answers.jsonl   every answer: its id, route and confidence, the connections of its prompt
    FOLDER/served.jsonl    where texts are kept: the prompts whose answers were voted down, and their corrections
    FOLDER/lock            held by the one server that writes here

Texts are what others wrote: they are kept where that is asked for, and then stand in the first, third and fourth of
these. served.jsonl follows from the votes that stand, the newest MOST_SERVED, as a plan's set of examples may be read:
{answer, prompt, said, response, category, score}, with an empty response where the vote corrected nothing. What is
made of them, harmonic/capture says.

Opening a folder replays the log: the weights are those that were, to the last bit. The newest ANSWERS answers can be
voted on, and older ones that have a vote already. Refuses a folder that another server holds, damaged lines, and the
correction of an answer whose text is not kept, or that is not voted down.
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
from bloomery.errors import ArtifactError, DataError
from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.feedback import UNIT, TooMany, Unknown, Vote, Votes, thousandths
from bloomery.evaluate.cascade.routing import CONNECTIONS

VOTES, ANSWERED, WEIGHTS, SERVED = "votes.jsonl", "answers.jsonl", "weights.json", "served.jsonl"
ANSWERS = 10_000
"""Answers that are remembered."""
MOST_VOTES = 32
"""On one answer, those that were replaced among them: each can still be undone, so each is kept."""
MOST_SERVED = 1000
CATEGORY = "instruct"
"""Of what is corrected: whoever knows better (an item of the gauntlet does) says so."""

log = logging.getLogger(__name__)


class Ledger:
    """A context manager. `answered` belongs to one thread; `vote` and `undo` to any."""

    def __init__(self, folder: Path, card: Card, *, texts: bool = False) -> None:
        """texts: keep what was asked and answered."""
        self.folder, self._card, self._keeps = folder, card, texts
        self._votes = Votes(card.learning, card.names)
        self._answers: dict[str, tuple[str, tuple[int, ...]]] = {}
        """{answer: (member, connections)}, oldest first."""
        self._said: dict[str, tuple[str, str]] = {}
        """{answer: (prompt, answer)} of those, where texts are kept."""
        self._down: dict[str, dict[str, Any]] = {}
        """{vote: what served.jsonl says of it}, of those that vote an answer down whose text is kept; oldest first."""
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

    def answered(
        self, answer: str, connections: tuple[int, ...], told: Mapping[str, Any], said: tuple[str, str] = ("", "")
    ) -> None:
        """Remember who answered. A disk that cannot take the line costs no answer. said: prompt and answer."""
        self._remember(answer, told["member"], connections, said if self._keeps else None)
        facts = {"answer": answer, "connections": list(connections), **{k: v for k, v in told.items() if k != "id"}}
        if self._keeps:
            facts |= {"prompt": said[0], "said": said[1]}
        try:
            if self._lines >= 2 * ANSWERS:
                self._answer_log = self._shortened(self._answer_log.file)
            self._answer_log.write("answer", sync=False, **facts)
            self._lines += 1
        except ArtifactError as error:
            log.warning("an answer is not in the log: %s", error)

    def vote(self, answer: str, score: float, correction: str = "") -> dict[str, Any]:
        """Raises Unknown, TooMany; DataError for a correction that cannot be kept; ArtifactError where it cannot be
        stored, and then it is not cast."""
        with self._one_at_a_time:
            stands = self._votes.on(answer)
            about = (stands.member, stands.connections) if stands else self._answers.get(answer)
            if about is None:
                raise Unknown(answer)
            if self._votes.count(answer) >= MOST_VOTES:
                raise TooMany(answer)
            vote = Vote(f"vote-{secrets.token_hex(8)}", answer, *about, thousandths(score))
            down = self._voted_down(vote, stands, correction)
            before = self._votes.weights_at(vote)
            self._votes.cast(vote)
            replaced = stands.event if stands else None
            try:
                self._log.write(
                    "vote", id=vote.event, answer=answer, member=vote.member, connections=list(vote.connections),
                    score=vote.score, replaces=replaced, before=before, after=self._votes.weights_at(vote), **down,
                )  # fmt: skip
            except ArtifactError:
                self._votes.undo(vote.event)
                raise
            self._note(vote, down)
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
            self._down.pop(event, None)
            self._settle()
        return {"event": event, "id": vote.answer, "deleted": True}

    def _remember(self, answer: str, member: str, connections: tuple[int, ...], said: tuple[str, str] | None) -> None:
        self._answers[answer] = member, connections
        if said is not None:
            self._said[answer] = said
        while len(self._answers) > ANSWERS:
            oldest = next(iter(self._answers))
            del self._answers[oldest]
            self._said.pop(oldest, None)

    def _voted_down(self, vote: Vote, stands: Vote | None, correction: str) -> dict[str, Any]:
        """The texts that a vote is kept with: none of one that votes up, or where none are known."""
        before = self._down.get(stands.event) if stands is not None else None
        said = (before["prompt"], before["said"]) if before is not None else self._said.get(vote.answer)
        if said is not None and self._keeps and vote.score < 0:
            return {"prompt": said[0], "said": said[1], "correction": correction}
        if correction:
            if vote.score >= 0:
                raise DataError("correction", "of an answer that is not voted down", "a score below 0")
            expected = "an answer of a server that was started with `--keep-texts`"
            raise DataError("correction", "of an answer of which no text is kept here", expected)
        return {}

    def _note(self, vote: Vote, texts: Mapping[str, Any]) -> None:
        if "prompt" in texts:
            self._down[vote.event] = {
                "answer": vote.answer, "prompt": str(texts["prompt"]), "said": str(texts["said"]),
                "response": str(texts["correction"]), "category": CATEGORY, "score": vote.score / UNIT,
            }  # fmt: skip

    def _settle(self) -> None:
        self.weights = self._votes.weights()
        record = {"cascade": self._card.name, "connections": CONNECTIONS, "weights": self.weights}
        try:
            write_atomically(self.folder / WEIGHTS, json.dumps(record).encode())
            if self._down or (self.folder / SERVED).exists():
                standing = [row for event, row in self._down.items() if self._stands(row["answer"], event)]
                lines = "".join(json.dumps(row) + "\n" for row in standing[-MOST_SERVED:])
                write_atomically(self.folder / SERVED, lines.encode())
        except ArtifactError as error:  # the log has it
            log.warning("%s or %s is not current: %s", WEIGHTS, SERVED, error)

    def _stands(self, answer: str, event: str) -> bool:
        vote = self._votes.on(answer)
        return vote is not None and vote.event == event

    def _replay(self) -> None:
        for number, event in enumerate(read_events(self.folder / VOTES), start=1):
            try:
                if event["event"] == "undo":
                    self._votes.undo(event["vote"])
                    self._down.pop(event["vote"], None)
                else:
                    self._votes.cast(vote := _vote(event))
                    self._note(vote, event)
            except (*FAULTS, Unknown) as error:
                raise illegible(event, f"{self.folder / VOTES}:{number}", error) from None
        for number, event in enumerate(read_events(self.folder / ANSWERED), start=1):
            try:
                said = (str(event["prompt"]), str(event["said"])) if self._keeps and "prompt" in event else None
                self._remember(str(event["answer"]), str(event["member"]), _connections(event), said)
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
