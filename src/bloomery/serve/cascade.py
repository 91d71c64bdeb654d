"""Several models behind one name: each is asked in its turn until one has answered well enough.

    for each text: route (evaluate/cascade/routing.py), then ask the next member until one answer is taken

A member falls through when it breaks off (`failed`; logits that are not numbers are one way to), gives nothing for its
timeout (`timeout`), has a full queue (`full`), no room for the prompt or no template for the conversation (`unfit`), or
was not sure enough (`unsure`, evaluate/cascade/confidence.py). Who is asked last need not be sure. Where that one fails
too, the surest of the unsure ones is asked once more, and its answer taken: the same seed gives it again.

A whole answer is judged at its end. Of a stream the first `hold` tokens are held back and judged; then it is sent as it
is written, and a member that fails later ends it with an error: what was sent is not taken back.

Every text has an id, by which feedback finds who wrote it. Refuses a request where no member can begin (429, 400).
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from bloomery.evaluate.cascade.card import Card
from bloomery.evaluate.cascade.confidence import Confidence
from bloomery.evaluate.cascade.routing import Relevance, connections_of, route, words_of
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Piece
from bloomery.serve.batching import Event, Failure, Job
from bloomery.serve.desk import Desk, job_of
from bloomery.serve.source import (
    Ledger,
    Model,
    Question,
    Reading,
    Refusal,
    Shelf,
    Wish,
    at_once,
    conversation_of,
    ended,
    tokens_of,
)

Outcome = Literal["answered", "unsure", "failed", "timeout", "full", "unfit"]


@dataclass(frozen=True, slots=True)
class Cascade:
    """What is served under one name."""

    card: Card
    models: Sequence[Model]
    """Called as their members."""
    relevance: Relevance
    ledger: Ledger
    shelf: Shelf | None = None
    """Packets that come while it is served; `relevance` are those before them."""
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(member, outcome)"""

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def heard(self) -> Relevance:
        """All packets that there are now."""
        return self.relevance if self.shelf is None else self.shelf.relevance

    def source(self, desk: Desk) -> Members:
        return Members(desk, self)


@dataclass(frozen=True, slots=True)
class Members:
    """The Source."""

    desk: Desk
    cascade: Cascade

    @property
    def context(self) -> int:
        return self.desk.context

    def read(self, prompt: str | Sequence[int]) -> Question:
        """Token ids are the first member's; others with another vocabulary read the text that they spell."""
        first = self.cascade.models[0]
        known = {first.tokenizer.digest: Reading(tokens_of(first, prompt))}
        text = prompt if isinstance(prompt, str) else first.tokenizer.decode(prompt)
        readings: dict[str, Reading] = {}
        for model in self.cascade.models:
            digest = model.tokenizer.digest
            if digest not in known:
                known[digest] = Reading(tokens_of(model, text))
            readings[model.name] = known[digest]
        return Question(readings, text, text)

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> Question:
        """By each member's own template. Raises Refusal where none of them can say it."""
        readings: dict[str, Reading] = {}
        known: dict[tuple[str, str], Reading | Refusal] = {}
        for model in self.cascade.models:
            key = model.tokenizer.digest, model.template.source
            if key not in known:
                try:
                    known[key] = conversation_of(model, messages)
                except Refusal as refusal:
                    known[key] = refusal
            if isinstance(found := known[key], Reading):
                readings[model.name] = found
        if not readings:
            raise next(each for each in known.values() if isinstance(each, Refusal))
        said = [message["content"] for message in messages if message["role"] == "user"]
        first = next(model for model in self.cascade.models if model.name in readings)
        return Question(readings, said[-1] if said else "", first.template.render(messages))

    def answer(self, wishes: Sequence[Wish], *, streamed: bool) -> Texts:
        return Texts(self.desk, self.cascade, wishes, streamed=streamed)


@dataclass(frozen=True, slots=True)
class Expired:
    """A member has given nothing for its timeout."""

    came: int
    """Events that had come when the clock was set."""


Told: TypeAlias = tuple[int, Job, Event | Expired]


class Texts:
    """The texts of one request. Raises Refusal where one of them cannot be begun."""

    def __init__(self, desk: Desk, cascade: Cascade, wishes: Sequence[Wish], *, streamed: bool) -> None:
        self._events: asyncio.Queue[Told] = asyncio.Queue()
        self._walks = [
            Walk(desk, cascade, question, sampling, number, self._events, streamed=streamed)
            for number, (question, sampling) in enumerate(wishes)
        ]
        try:
            for walk in self._walks:
                walk.begin()
        except Refusal:
            self.close()
            raise

    @property
    def count(self) -> int:
        return len(self._walks)

    async def rounds(self) -> AsyncIterator[list[tuple[int, Event]]]:
        left = self.count
        while left:
            told = await at_once(self._events)
            found = [(number, event) for number, job, one in told for event in self._walks[number].hear(job, one)]
            left -= sum(ended(event) for _, event in found)
            if found:
                yield found

    def beside(self, number: int) -> dict[str, Any] | None:
        return self._walks[number].told

    def close(self) -> None:
        for walk in self._walks:
            walk.leave()


class Walk:
    """One text on its way from member to member. `hear` its events; it gives those that the client is to see."""

    def __init__(
        self, desk: Desk, cascade: Cascade, question: Question, sampling: Sampling, number: int,
        events: asyncio.Queue[Told], *, streamed: bool,
    ) -> None:  # fmt: skip
        self._desk, self._cascade, self._question, self._sampling = desk, cascade, question, sampling
        self._number, self._events = number, events
        self._hold = cascade.card.hold if streamed else None
        words = words_of(question.text)
        self._connections = connections_of(words)
        self._left = [*route(cascade.card, cascade.heard, words, cascade.ledger.weights)]
        self._route: list[dict[str, Any]] = []
        self._unsure: dict[str, float] = {}
        self._must_answer = False
        self._member = ""
        self._job: Job | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._confidence = Confidence()
        self._held: list[Piece] = []
        self._written: list[str] = []
        self._taken = False
        self._came = 0
        self.told: dict[str, Any] | None = None
        """Of the whole answer, when it has ended."""

    def begin(self) -> None:
        """Raises Refusal where nobody can."""
        if not self._ask_next():
            if all(each["outcome"] == "unfit" for each in self._route):
                message = "the prompt fits into the context of no member that would be asked"
                raise Refusal(400, message, code="context_length_exceeded")
            message = "too many requests wait already for every member; try again"
            raise Refusal(429, message, kind="rate_limit_error", code="queue_full")

    def hear(self, job: Job, event: Event | Expired) -> list[Event]:
        """[] while it is not known whose answer is taken, and for what a member says that was left."""
        if job is not self._job:
            return []
        if isinstance(event, Failure):
            return self._break("failed", event.reason)
        if isinstance(event, Expired):
            if self._taken and self._came > event.came:  # it was not late: the client was slow to take what came
                self._set_timer(job)
                return []
            return self._break("timeout", f"nothing came for {self._cascade.card.timeout(self._member):g} seconds")
        assert event.logprob is not None
        self._confidence.add(event.logprob)
        self._written.append(event.text)
        self._held.append(event if self._sampling.logprobs is not None else replace(event, choices=()))
        if not self._taken:
            threshold = self._cascade.card.threshold(self._member) if self._left and not self._must_answer else 0.0
            verdict = self._confidence.verdict(threshold, ended=ended(event), hold=self._hold)
            if verdict == "wait":
                return []
            if verdict == "fall":
                self._unsure.setdefault(self._member, self._confidence.value)
                return self._fall("unsure")
            self._taken = True
        if ended(event):
            self._end()
        else:
            self._set_timer(job)
        said: list[Event] = [*self._held]
        self._held = []
        return said

    def leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._job is not None:
            self._desk.leave([self._job])
        self._timer = self._job = None

    def _ask_next(self) -> bool:
        """Whether somebody has begun. Raises Refusal where the server is stopping."""
        while self._left:
            if self._ask(self._left.pop(0)):
                return True
        if self._unsure and not self._must_answer:
            self._must_answer = True
            return self._ask(max(self._unsure, key=lambda name: self._unsure[name]))
        return False

    def _ask(self, name: str) -> bool:
        self._member, self._confidence, self._held, self._written = name, Confidence(), [], []
        reading = self._question.readings.get(name)
        room = self._desk.context - len(reading.tokens) if reading else 0
        if room < 1:
            self._note("unfit")
            return False
        likeliest, most = self._sampling.logprobs or 0, min(self._sampling.max_tokens, room)
        job = job_of(name, self._question, replace(self._sampling, logprobs=likeliest, max_tokens=most))
        events, number = self._events, self._number

        def tell(event: Event) -> None:
            self._came += 1
            events.put_nowait((number, job, event))

        try:
            self._desk.submit([(job, tell)], f"{self._cascade.name}/{name}")
        except Refusal as refusal:
            if refusal.status != 429:
                raise
            self._note("full")
            return False
        self._job = job
        self._set_timer(job)
        return True

    def _set_timer(self, job: Job) -> None:
        if self._timer is not None:
            self._timer.cancel()
        seconds, late = self._cascade.card.timeout(self._member), (self._number, job, Expired(self._came))
        self._timer = asyncio.get_running_loop().call_later(seconds, self._events.put_nowait, late)

    def _break(self, outcome: Outcome, reason: str) -> list[Event]:
        if not self._taken:
            return self._fall(outcome)
        self._note(outcome)
        self.leave()
        return [Failure(f"{self._member}: {reason}")]

    def _fall(self, outcome: Outcome) -> list[Event]:
        self._note(outcome)
        self.leave()
        try:
            if self._ask_next():
                return []
        except Refusal as refusal:
            return [Failure(refusal.message)]
        asked = ", ".join(f"{each['member']} ({each['outcome']})" for each in self._route)
        return [Failure(f"no member could answer: {asked}")]

    def _end(self) -> None:
        self._note("answered")
        self.leave()
        answer, confidence = f"ans-{secrets.token_hex(12)}", self._confidence.value
        self.told = {"id": answer, "member": self._member, "confidence": confidence, "route": self._route}
        said = self._question.shown, "".join(self._written)
        self._cascade.ledger.answered(answer, self._connections, self.told, said)

    def _note(self, outcome: Outcome) -> None:
        self._cascade.outcomes[self._member, outcome] += 1
        sure = {"confidence": self._confidence.value} if outcome in ("answered", "unsure") else {}
        self._route.append({"member": self._member, "outcome": outcome, **sure})
