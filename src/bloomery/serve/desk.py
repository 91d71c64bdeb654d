"""Between asyncio and the worker threads: requests go in, events come out, and nobody waits for a model on the loop.

All plain models share one worker; each member of a `Several` has a worker and a queue of its own, so that one that
hangs does not keep the others from answering. Refuses what the bounds do not allow, with a Refusal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

from bloomery.evaluate.sampling import Sampling
from bloomery.serve.batching import Batch, Closed, Event, Full, Job, Load, Worker
from bloomery.serve.source import (
    Answers,
    Ledger,
    Model,
    Question,
    Reading,
    Refusal,
    Shelf,
    Source,
    Wish,
    at_once,
    conversation_of,
    ended,
    tokens_of,
)  # fmt: skip


class Several(Protocol):
    """Models behind one name. Each has a worker and a queue of its own."""

    @property
    def name(self) -> str: ...
    @property
    def models(self) -> Sequence[Model]: ...
    @property
    def outcomes(self) -> Mapping[tuple[str, str], int]:
        """How often each (member, outcome) came about."""
        ...

    @property
    def ledger(self) -> Ledger: ...
    @property
    def shelf(self) -> Shelf | None: ...
    def source(self, desk: Desk) -> Source: ...


Sink: TypeAlias = Callable[[Event], None]
"""Where the events of a job go, on the event loop."""


@dataclass(slots=True)
class Desk:
    """All models of a server and their workers. `open` and the rest run on the event loop."""

    models: Sequence[Model]
    slots: int
    context: int
    queue: int
    several: Sequence[Several] = ()
    workers: dict[str, Worker] = field(init=False)
    """By the name of who is behind one: empty for all plain models, CASCADE/MEMBER for a member."""
    _loop: asyncio.AbstractEventLoop | None = None
    _asked: dict[Job, Sink] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plain = {each.name: self._batch(each) for each in self.models}
        self.workers = {"": Worker(plain, self._deliver, self.queue)}
        for group in self.several:
            for each in group.models:
                batches = {each.name: self._batch(each)}
                self.workers[f"{group.name}/{each.name}"] = Worker(batches, self._deliver, self.queue)

    @property
    def names(self) -> list[str]:
        """What clients can ask for."""
        return [each.name for each in (*self.models, *self.several)]

    def open(self) -> None:
        self._loop = asyncio.get_running_loop()
        for worker in self.workers.values():
            worker.start()

    async def close(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in self.workers.values()))

    def load(self) -> Load:
        loads = [worker.load() for worker in self.workers.values()]
        return Load(sum(load.waiting for load in loads), sum(load.running for load in loads))

    @property
    def cancelled(self) -> int:
        """Texts that were left before their end."""
        return sum(worker.cancelled for worker in self.workers.values())

    def outcomes(self) -> dict[tuple[str, str, str], int]:
        """{(cascade, member, what came of asking it): how often}"""
        return {(group.name, *which): count for group in self.several for which, count in group.outcomes.items()}

    def source(self, name: str) -> Source:
        """Raises Refusal for a name that is not served."""
        for each in self.models:
            if each.name == name:
                return Single(self, each)
        for group in self.several:
            if group.name == name:
                return group.source(self)
        message = f"the model {name!r} is not served here; there is {', '.join(self.names)}"
        raise Refusal(404, message, param="model", code="model_not_found")

    def submit(self, jobs: Sequence[tuple[Job, Sink]], worker: str = "") -> None:
        """All or none. Raises Refusal (429, 503)."""
        self._asked.update(jobs)
        try:
            self.workers[worker].submit([job for job, _ in jobs])
        except (Full, Closed) as error:
            self.forget([job for job, _ in jobs])
            if isinstance(error, Closed):
                raise Refusal(503, "the server is stopping", kind="server_error") from None
            message = "too many requests wait already; try again"
            raise Refusal(429, message, kind="rate_limit_error", code="queue_full") from None

    def leave(self, jobs: Sequence[Job]) -> None:
        """End jobs, if they have not ended."""
        for job in jobs:
            job.cancel()
        self.forget(jobs)

    def forget(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._asked.pop(job, None)

    def _batch(self, each: Model) -> Batch:
        return Batch(each.model, each.tokenizer, slots=self.slots, context=self.context)

    def _deliver(self, events: list[tuple[Job, Event]]) -> None:
        """On a worker's thread."""
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._hand_out, events)

    def _hand_out(self, events: list[tuple[Job, Event]]) -> None:
        for job, event in events:
            if job in self._asked and not job.cancelled:
                self._asked[job](event)


@dataclass(frozen=True, slots=True)
class Single:
    """One model behind its name."""

    desk: Desk
    served: Model

    @property
    def context(self) -> int:
        return self.desk.context

    def read(self, prompt: str | Sequence[int]) -> Question:
        return Question({self.served.name: Reading(tokens_of(self.served, prompt))})

    def conversation(self, messages: Sequence[Mapping[str, str]]) -> Question:
        return Question({self.served.name: conversation_of(self.served, messages)})

    def answer(self, wishes: Sequence[Wish], *, streamed: bool) -> Answers:
        return Written(self.desk, [job_of(self.served.name, *wish) for wish in wishes])


def job_of(name: str, question: Question, sampling: Sampling) -> Job:
    """For the model of that name."""
    reading = question.readings[name]
    return Job(name, reading.tokens, replace(sampling, stop=sampling.stop + reading.stop))


class Written:
    """The texts of one model. Raises Refusal where they cannot be begun."""

    def __init__(self, desk: Desk, jobs: Sequence[Job]) -> None:
        self._desk, self._jobs = desk, jobs
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        desk.submit([(job, self._sink(number)) for number, job in enumerate(jobs)])

    @property
    def count(self) -> int:
        return len(self._jobs)

    async def rounds(self) -> AsyncIterator[list[tuple[int, Event]]]:
        left = self.count
        while left:
            found = await at_once(self._events)
            left -= sum(ended(event) for _, event in found)
            yield found

    def beside(self, number: int) -> dict[str, Any] | None:
        return None

    def close(self) -> None:
        self._desk.leave(self._jobs)

    def _sink(self, number: int) -> Sink:
        return lambda event: self._events.put_nowait((number, event))
