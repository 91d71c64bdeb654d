"""A worker process: does the work of one cell after another for an engine, and writes nothing but what a stage writes.

    python -m bloomery.engine.worker ENGINE_PID LOCK

Started by engine.workers only. It dies with its engine: the kernel kills it (Linux), its stdin ends, and until it is
gone it holds the engine's lock on the run folder (the inherited descriptor LOCK), so that a run started again never
finds two writers of one checkpoint. It leaves signals to the engine, which asks it to save. Whatever a stage prints
goes to stderr, which is a log file.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from bloomery.engine import wire
from bloomery.engine.cellwork import CellFailed, context, worked
from bloomery.engine.discover import load
from bloomery.engine.stage import Stage, Stopped, StopReason
from bloomery.engine.watching import Watch
from bloomery.engine.wire import Message
from bloomery.errors import BloomeryError, NonFinite
from bloomery.measure import Measurement

PR_SET_PDEATHSIG = 1  # linux/prctl.h
SPENDING_IS_TOLD_EVERY_SECONDS = 0.05


class Line:
    """The line to the engine, a Teller: says things on a private copy of stdout, and hears in a thread of its own."""

    def __init__(self) -> None:
        self._in, self._out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        self._heard: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._written = threading.Semaphore(0)
        self._speaking = threading.Lock()
        self._stop: StopReason | None = None
        self._spent, self._told = {"tokens": 0.0, "flops": 0.0}, 0.0
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._in:
            message = wire.from_line(line)
            match message["say"]:
                case "written":
                    self._written.release()
                case "stop":
                    self._stop = message["reason"]
                case _:
                    self._stop = None
                    self._heard.put(message)
        os._exit(0)  # the engine is gone, or wants no more

    def hear(self) -> Message:
        return self._heard.get()

    def say(self, what: str, **facts: Any) -> None:
        with self._speaking:
            self._send(what, facts)

    def _fact(self, what: str, **facts: Any) -> None:
        """Say something that must be in the events before anything is saved after it."""
        with self._speaking:
            self._send(what, facts)
            self._written.acquire()

    def _send(self, what: str, facts: Message) -> None:
        try:
            self._out.write(wire.to_line({"say": what, **facts}))
            self._out.flush()
        except BrokenPipeError:
            os._exit(1)

    def measured(self, measurement: Measurement) -> None:
        self._fact("measured", measurement=measurement.to_json())

    def point(self, **facts: Any) -> None:
        self._fact("point", facts=facts)

    def note(self, event: str, **facts: Any) -> None:
        self._fact("note", event=event, facts=facts)

    def progress(self, **facts: Any) -> None:
        self.say("progress", facts=facts)

    def spend(self, *, tokens: float = 0, flops: float = 0) -> None:
        self._spent["tokens"] += tokens
        self._spent["flops"] += flops
        if time.monotonic() - self._told > SPENDING_IS_TOLD_EVERY_SECONDS:
            self._tell_spending()

    def end(self, how: str, **facts: Any) -> None:
        """The last word on a cell."""
        self._tell_spending()
        self.say(how, **facts)

    def _tell_spending(self) -> None:
        self.say("spend", **self._spent)
        self._spent, self._told = {"tokens": 0.0, "flops": 0.0}, time.monotonic()

    def stop_reason(self) -> StopReason | None:
        return self._stop


def main() -> None:
    engine, lock = int(sys.argv[1]), int(sys.argv[2])
    _die_with(engine)
    os.set_inheritable(lock, False)
    _leave_signals_to_the_engine()
    line = Line()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    opening = line.hear()
    around = wire.surroundings_from_json(opening["around"])
    for module in opening["preload"]:
        importlib.import_module(module)
    line.say("ready")
    kinds: dict[str, Stage] = {}
    for message in _cells(line):
        target = message["target"]
        try:
            if target not in kinds:
                kinds[target] = load(target)()
            job = wire.job_from_json(message["job"])
            watch = Watch.begin(job.stop_if, job.declared, wire.measurements(message["known"]))
            kind = kinds[target]
            config = kind.config_model().model_validate(message["settings"], context={"system": job.system})
            ctx = context(job, around, line, watch)
            result = worked(lambda ctx, kind=kind, config=config: kind.run(ctx, config), ctx, watch)
            line.end("finished", result=wire.result_to_json(result))
        except Exception as error:
            _say_why(line, error)


def _cells(line: Line) -> Iterator[Message]:
    while True:
        yield line.hear()


def _say_why(line: Line, error: Exception) -> None:
    match error:
        case NonFinite():
            line.end("diverged", why=str(error))
        case CellFailed():
            line.end("failed", why=str(error))
        case Stopped():
            line.end("stopped")
        case BloomeryError():
            line.end("error", error=wire.error_to_json(error))
        case OSError() if error.errno is not None:
            line.end("system", number=error.errno, text=error.strerror, file=error.filename)
        case _:
            traceback.print_exception(error)
            line.end("broke", why=f"{type(error).__name__}: {error}")


def _die_with(engine: int) -> None:
    """Elsewhere than on Linux the end of stdin has to do."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != engine:
        os._exit(1)


def _leave_signals_to_the_engine() -> None:
    """Ctrl-C reaches every process of a terminal. The engine blocked both before it started this one, so none is lost
    on the way here; a handler that does nothing, unlike SIG_IGN, is not inherited by what a stage starts."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


if __name__ == "__main__":
    main()
