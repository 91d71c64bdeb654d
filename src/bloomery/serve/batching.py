"""Many requests, one worker thread, which alone touches models: continuous batching with a bounded queue.

    every round: leave what was cancelled; begin what waits while slots are free; one token for every row of each model

A job is a prompt and its Sampling; it has the text that `evaluate.sample.stream` gives it alone, up to rounding of the
logits (evaluate/decoding.py). What a round gives is handed over at once, to `deliver`, on the worker thread: for an
asyncio server that is one call_soon_threadsafe a round.

A model that breaks off ends the jobs in its batch with a Failure; the worker and the other models go on. Refuses jobs
beyond the bound with Full, all of a group or none, and after `stop` with Closed.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bloomery.data.tokenizer import Tokenizer
from bloomery.evaluate.decoding import Decoding, decoding
from bloomery.evaluate.sampling import Sampling
from bloomery.evaluate.writing import Piece, Vocabulary, Writing
from bloomery.model.interface import LanguageModel, Scorer

log = logging.getLogger(__name__)
STOP_SECONDS = 10.0


class Full(Exception):
    """The queue holds as many jobs as it may."""


class Closed(Exception):
    """The worker takes no more jobs."""


@dataclass(frozen=True, slots=True)
class Failure:
    """The last event of a job that could not be finished."""

    reason: str


Event: TypeAlias = Piece | Failure


@dataclass(slots=True, eq=False)
class Job:
    """One text to write. `cancel` may be called from any thread, at any time, and more than once."""

    model: str
    prompt: Sequence[int]
    sampling: Sampling
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass(frozen=True, slots=True)
class Load:
    """What there is to do, for metrics and tests."""

    waiting: int
    running: int


class Batch:
    """The texts of one model that are being written."""

    def __init__(self, model: LanguageModel | Scorer, tokenizer: Tokenizer, *, slots: int, context: int) -> None:
        """context: tokens of a prompt and its answer together, at most."""
        if isinstance(model, LanguageModel):
            model.eval()
        self.vocabulary = Vocabulary(model, tokenizer)
        self.context = context
        self._make: Callable[[], Decoding] = lambda: decoding(model, slots=slots, length=context)
        self._decoding = self._make()
        self._rows: list[tuple[Job, Writing]] = []
        self.reserved = 0
        """Slots for jobs that have left the queue and are not yet begun, so that each job is always counted."""

    @property
    def free(self) -> int:
        return self._decoding.slots - self.running

    @property
    def running(self) -> int:
        return len(self._rows) + self.reserved

    def begin(self, job: Job) -> list[tuple[Job, Event]]:
        """Read a job's prompt; its first token."""
        writing = Writing(self.vocabulary, job.prompt, job.sampling)
        self._rows.append((job, writing))
        self.reserved -= 1
        logits = self._decoding.add(job.prompt, len(job.prompt) + job.sampling.max_tokens)
        return self._told([writing.take(logits)], first=len(self._rows) - 1)

    def step(self) -> list[tuple[Job, Event]]:
        """One token more for every row."""
        if not self._rows:
            return []
        logits = self._decoding.step([writing.tokens[-1] for _, writing in self._rows])
        return self._told([writing.take(own) for (_, writing), own in zip(self._rows, logits, strict=True)])

    def leave(self, count: Callable[[int], None]) -> None:
        """End the rows of cancelled jobs, `count`ed before they are gone."""
        gone = [row for row, (job, _) in enumerate(self._rows) if job.cancelled]
        count(len(gone))
        self._drop(gone)

    def fail(self, reason: str) -> list[tuple[Job, Event]]:
        """End all rows, and begin with an empty cache."""
        failed: list[tuple[Job, Event]] = [(job, Failure(reason)) for job, _ in self._rows]
        self._rows, self._decoding = [], self._make()
        return failed

    def _told(self, pieces: list[Piece], first: int = 0) -> list[tuple[Job, Event]]:
        told: list[tuple[Job, Event]] = [
            (job, piece) for (job, _), piece in zip(self._rows[first:], pieces, strict=True)
        ]  # fmt: skip
        self._drop([first + row for row, piece in enumerate(pieces) if piece.finish is not None])
        return told

    def _drop(self, rows: Iterable[int]) -> None:
        for row in sorted(rows, reverse=True):  # the last row moves down; it is never one that is still to go
            self._decoding.drop(row)
            self._rows[row] = self._rows[-1]
            self._rows.pop()


@dataclass(slots=True)
class Worker:
    """Owns the batches. `deliver` gets the events of each round, in order."""

    batches: Mapping[str, Batch]
    deliver: Callable[[list[tuple[Job, Event]]], None]
    queue: int
    """Jobs that may wait, beside those that are written."""
    cancelled: int = 0
    """Jobs that were left before their end."""
    _waiting: deque[Job] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closed: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._work, name="bloomery-worker", daemon=True)
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """All of them or none. Raises Full or Closed; never waits for a model."""
        with self._changed:
            if self._closed:
                raise Closed
            free = max(0, sum(batch.free for batch in self.batches.values()))
            if len(self._waiting) + len(jobs) > self.queue + free:
                raise Full
            self._waiting.extend(jobs)
            self._changed.notify()

    def load(self) -> Load:
        return Load(len(self._waiting), sum(batch.running for batch in self.batches.values()))

    def stop(self) -> None:
        """Fail what is unfinished, and end the thread. One that a model does not let go is left behind."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def _work(self) -> None:
        while self._has_work():
            events = self._round()
            if events:
                self.deliver(events)
        left = [*self._waiting]
        self._waiting.clear()
        events: list[tuple[Job, Event]] = [(job, Failure("the server is stopping")) for job in left]
        for batch in self.batches.values():
            events += batch.fail("the server is stopping")
        self.deliver(events)

    def _has_work(self) -> bool:
        """Wait for it; False when there will be none."""
        with self._changed:
            while not self._closed and not self._waiting and not self.load().running:
                self._changed.wait()
            return not self._closed

    def _round(self) -> list[tuple[Job, Event]]:
        events: list[tuple[Job, Event]] = []
        for batch in self.batches.values():
            batch.leave(self._count)
        for batch, job in self._next():
            events += self._guarded(batch, lambda batch=batch, job=job: batch.begin(job))
        for batch in self.batches.values():
            events += self._guarded(batch, batch.step)
        return events

    def _count(self, cancelled: int) -> None:
        self.cancelled += cancelled

    def _next(self) -> list[tuple[Batch, Job]]:
        """Waiting jobs for which there is a slot, in the order in which they came."""
        found: list[tuple[Batch, Job]] = []
        with self._changed:
            still: list[Job] = []
            for job in self._waiting:
                batch = self.batches[job.model]
                if job.cancelled:
                    self.cancelled += 1
                elif batch.free:
                    batch.reserved += 1
                    found.append((batch, job))
                else:
                    still.append(job)
            self._waiting = deque(still)
        return found

    def _guarded(self, batch: Batch, act: Callable[[], list[tuple[Job, Event]]]) -> list[tuple[Job, Event]]:
        try:
            return act()
        except Exception as error:  # a model is anybody's code
            log.exception("a model broke off")
            return batch.fail(f"the model broke off: {error}")
