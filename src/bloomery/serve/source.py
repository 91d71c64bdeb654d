"""What stands behind a model's name: whatever turns prompts into answers, be it one model or several.

Refuses with a Refusal, which names its HTTP status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from bloomery.data.chat import ChatTemplate
from bloomery.data.tokenizer import Tokenizer
from bloomery.errors import BloomeryError
from bloomery.evaluate.cascade.routing import Relevance
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Piece
from bloomery.model.interface import LanguageModel, Scorer
from bloomery.serve.batching import Event


class Refusal(Exception):
    """A request that is not begun: `status` is HTTP's."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", param: str | None = None,
        code: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status, self.message, self.kind, self.param, self.code = status, message, kind, param, code


@dataclass(frozen=True, slots=True)
class Model:
    """What is served under one name."""

    name: str
    model: LanguageModel | Scorer
    tokenizer: Tokenizer
    template: ChatTemplate


@dataclass(frozen=True, slots=True)
class Reading:
    """A prompt as one model reads it."""

    tokens: list[int]
    stop: tuple[str, ...] = ()
    """What ends its answer, beside what the client wants: of a chat."""


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt as everybody reads it who may be asked."""

    readings: Mapping[str, Reading]
    """By the model's name. The first is the one whose tokens are counted."""
    text: str = ""
    """What decides who is asked: the prompt, or the last message of the user."""
    shown: str = ""
    """The prompt, or the whole conversation as the first reads it, to the letter."""

    @property
    def counted(self) -> int:
        return len(next(iter(self.readings.values())).tokens)

    @property
    def shortest(self) -> int:
        return min(len(each.tokens) for each in self.readings.values())


Wish: TypeAlias = tuple[Question, Sampling]


class Source(Protocol):
    """What stands behind a model's name."""

    @property
    def context(self) -> int:
        """Tokens of a prompt and its answer together, at most."""
        ...

    def read(self, prompt: str | Sequence[int]) -> Question:
        """May take a while; not for the event loop. Raises Refusal."""
        ...

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> Question: ...
    def answer(self, wishes: Sequence[Wish], *, streamed: bool) -> Answers:
        """Begin all or none. Raises Refusal."""
        ...


class Answers(Protocol):
    """The texts of one request as they are written. To be closed, whatever happens."""

    @property
    def count(self) -> int: ...
    def rounds(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """(number of the text, event): all that there is at a time, until each text has ended."""
        ...

    def beside(self, number: int) -> dict[str, Any] | None:
        """What is told of a text that has ended, beside the text."""
        ...

    def close(self) -> None: ...


class Ledger(Protocol):
    """Who answered what, and the votes on it. `vote` and `undo` wait for the disk, and may be called on any thread."""

    @property
    def weights(self) -> Mapping[str, Sequence[float]]:
        """Of each member, CONNECTIONS numbers."""
        ...

    def answered(
        self, answer: str, connections: tuple[int, ...], told: Mapping[str, Any], said: tuple[str, str]
    ) -> None:
        """said: what was shown, and what was answered."""
        ...

    def vote(self, answer: str, score: float, correction: str) -> dict[str, Any]:
        """Raises Unknown, and DataError for a correction that it does not keep."""
        ...

    def undo(self, event: str) -> dict[str, Any]:
        """Raises Unknown."""
        ...


class Shelf(Protocol):
    """Packets that come while a cascade is served. `add` waits for the disk, and may be called on any thread."""

    @property
    def relevance(self) -> Relevance:
        """With all that there are now. A value: what comes later makes another one."""
        ...

    def add(self, name: str, text: str) -> dict[str, Any]:
        """Raises DataError for what is no packet, ArtifactError where it cannot be stored."""
        ...

    def holdings(self) -> Sequence[Any]:
        """Of each member: packets, added, digest, learned, grown."""
        ...


def tokens_of(model: Model, prompt: str | Sequence[int]) -> list[int]:
    """Raises Refusal."""
    tokenizer = model.tokenizer
    if isinstance(prompt, str):
        return [tokenizer.end_of_document, *(int(token) for token in tokenizer.encode(prompt))]
    if max(prompt) >= tokenizer.vocab:
        raise Refusal(400, f"token {max(prompt)} is not among the {tokenizer.vocab}", param="prompt")
    begun = prompt[0] == tokenizer.end_of_document
    return [*prompt] if begun else [tokenizer.end_of_document, *prompt]


def conversation_of(model: Model, messages: Sequence[Mapping[str, str]]) -> Reading:
    """Raises Refusal."""
    try:
        return Reading(tokens_of(model, model.template.render(messages)), model.template.stop)
    except BloomeryError as error:
        raise Refusal(400, f"{error.where}: {error.found}", param="messages") from None


def ended(event: Event) -> bool:
    """Whether it is the last of its text."""
    return not isinstance(event, Piece) or event.finish is not None


async def at_once(events: asyncio.Queue[Any]) -> list[Any]:
    """All that there is; waits for the first."""
    found = [await events.get()]
    while not events.empty():
        found.append(events.get_nowait())
    return found
