"""Between asyncio and the worker thread: requests go in, events come out, and nobody waits for a model on the loop.

A model's name stands for a `Source`: whatever turns prompts into answers. Here that is one model with its batch; what
answers with several behind one name keeps to the same methods.

Refuses what the bounds do not allow, with a Refusal that names its HTTP status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bloomery.data.chat import ChatTemplate
from bloomery.data.tokenizer import Tokenizer
from bloomery.errors import BloomeryError
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Piece
from bloomery.model.interface import LanguageModel
from bloomery.serve.batching import Batch, Closed, Event, Full, Job, Load, Worker


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
    model: LanguageModel
    tokenizer: Tokenizer
    template: ChatTemplate


class Source(Protocol):
    """What stands behind a model's name."""

    @property
    def context(self) -> int:
        """Tokens of a prompt and its answer together, at most."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """What ends a chat's answer."""
        ...

    def read(self, prompt: str | Sequence[int]) -> list[int]:
        """Its tokens. May take a while; not for the event loop. Raises Refusal."""
        ...

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> list[int]: ...
    def answer(self, wishes: Sequence[tuple[Sequence[int], Sampling]]) -> Answers:
        """Begin all or none. Raises Refusal."""
        ...


@dataclass(eq=False, slots=True)
class Answers:
    """The texts of one request as they are written. To be closed, whatever happens."""

    jobs: Sequence[Job]
    events: asyncio.Queue[tuple[int, Event]] = field(default_factory=asyncio.Queue)

    async def rounds(self) -> AsyncIterator[list[tuple[int, Event]]]:
        """(number of the text, event): all that there is at a time, until each text has ended."""
        left = len(self.jobs)
        while left:
            found = [await self.events.get()]
            while not self.events.empty():
                found.append(self.events.get_nowait())
            left -= sum(ended(event) for _, event in found)
            yield found

    def close(self) -> None:
        for job in self.jobs:
            job.cancel()


def ended(event: Event) -> bool:
    """Whether it is the last of its text."""
    return not isinstance(event, Piece) or event.finish is not None


@dataclass(slots=True)
class Desk:
    """All models of a server and their worker. `open` and the rest run on the event loop."""

    models: Sequence[Model]
    slots: int
    context: int
    queue: int
    worker: Worker = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = None
    _asked: dict[Job, tuple[Answers, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        batches = {
            each.name: Batch(each.model, each.tokenizer, slots=self.slots, context=self.context)
            for each in self.models
        }  # fmt: skip
        self.worker = Worker(batches, self._deliver, self.queue)

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.worker.start()

    async def close(self) -> None:
        await asyncio.to_thread(self.worker.stop)

    def load(self) -> Load:
        return self.worker.load()

    def source(self, name: str) -> Source:
        """Raises Refusal for a name that is not served."""
        for each in self.models:
            if each.name == name:
                return Single(self, each)
        known = ", ".join(each.name for each in self.models)
        message = f"the model {name!r} is not served here; there is {known}"
        raise Refusal(404, message, param="model", code="model_not_found")

    def submit(self, jobs: Sequence[Job]) -> Answers:
        """Raises Refusal (429, 503)."""
        answers = Answers(jobs)
        self._asked.update({job: (answers, number) for number, job in enumerate(jobs)})
        try:
            self.worker.submit(jobs)
        except (Full, Closed) as error:
            self.forget(jobs)
            if isinstance(error, Closed):
                raise Refusal(503, "the server is stopping", kind="server_error") from None
            message = "too many requests wait already; try again"
            raise Refusal(429, message, kind="rate_limit_error", code="queue_full") from None
        return answers

    def forget(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._asked.pop(job, None)

    def _deliver(self, events: list[tuple[Job, Event]]) -> None:
        """On the worker's thread."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_out, events)

    def _hand_out(self, events: list[tuple[Job, Event]]) -> None:
        for job, event in events:
            if job in self._asked and not job.cancelled:
                answers, number = self._asked[job]
                answers.events.put_nowait((number, event))


@dataclass(frozen=True, slots=True)
class Single:
    """One model behind its name."""

    desk: Desk
    served: Model

    @property
    def context(self) -> int:
        return self.desk.context

    @property
    def stop(self) -> tuple[str, ...]:
        return self.served.template.stop

    def read(self, prompt: str | Sequence[int]) -> list[int]:
        tokenizer = self.served.tokenizer
        if isinstance(prompt, str):
            return [tokenizer.end_of_document, *(int(token) for token in tokenizer.encode(prompt))]
        if max(prompt) >= tokenizer.vocab:
            raise Refusal(400, f"token {max(prompt)} is not among the {tokenizer.vocab}", param="prompt")
        begun = prompt[0] == tokenizer.end_of_document
        return [*prompt] if begun else [tokenizer.end_of_document, *prompt]

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        try:
            return self.read(self.served.template.render(messages))
        except BloomeryError as error:
            raise Refusal(400, f"{error.where}: {error.found}", param="messages") from None

    def answer(self, wishes: Sequence[tuple[Sequence[int], Sampling]]) -> Answers:
        return self.desk.submit([Job(self.served.name, prompt, sampling) for prompt, sampling in wishes])
