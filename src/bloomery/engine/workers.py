"""Cells side by side in worker processes that live as long as the run; only this process writes events and seals.

Workers are `python -m bloomery.engine.worker`, spoken to as engine.wire says. They are started when there is work, stop
when they are told, and hold the run folder's lock until they are gone. One that ends by itself is an error with the end
of its log, RUN/worker-N.log.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from bloomery.engine import wire
from bloomery.engine.batch import Batch
from bloomery.engine.cellwork import Surroundings, Underway
from bloomery.engine.executing import Order, Result, Wanted
from bloomery.engine.history import Cell
from bloomery.engine.session import Session
from bloomery.engine.stage import StopReason
from bloomery.engine.wire import Message
from bloomery.errors import BloomeryError, WorkerError
from bloomery.measure import Measurement

POLL_SECONDS = 0.1
"""How long a signal may wait to be seen."""
LAST_LINES = 12
CLOSING_SECONDS = 10.0


class Workers:
    """Up to `number` cells at once."""

    def __init__(self, number: int, lock: int, preload: Sequence[str] = ()) -> None:
        """lock: the descriptor of the run folder's lock. preload: modules that a worker loads before its first cell, so
        that no cell's time is charged for it."""
        self._number, self._lock, self._preload = number, lock, tuple(preload)
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def execute(self, session: Session, orders: Sequence[Order], wanted: Wanted) -> list[Result]:
        batch = Batch(session, orders, wanted)
        while True:
            reason = session.stop_reason() or ("signal" if batch.broken else None)
            for worker in self._busy():
                if reason or not batch.wanted(worker.index):
                    worker.stop(reason or "signal")
            if not reason:
                self._assign(session, batch)
            if not batch.running and (reason or not self._start(session, batch)):
                return batch.outcome()
            self._listen(session, batch)

    def close(self) -> None:
        """They leave at the end of their stdin. One that is at work loses what it did since its last checkpoint."""
        for worker in self._workers:
            worker.dismiss()
        for worker in self._workers:
            worker.wait()
        self._workers.clear()
        self._selector.close()

    def _busy(self) -> list[_Worker]:
        return [worker for worker in self._workers if worker.index >= 0]

    def _start(self, session: Session, batch: Batch) -> bool:
        """Start as many workers as there is work for; whether any is needed at all."""
        batch.next()
        needed = min(batch.waiting(), self._number - len(self._busy()))
        for _ in range(needed - (len(self._workers) - len(self._busy()))):
            number = next(n for n in range(self._number) if all(worker.number != n for worker in self._workers))
            worker = _Worker(number, session, self._lock, self._preload)
            self._workers.append(worker)
            self._selector.register(worker.out, selectors.EVENT_READ, worker)
        return needed > 0

    def _assign(self, session: Session, batch: Batch) -> None:
        self._start(session, batch)
        for worker in self._workers:
            if worker.ready and worker.index < 0:
                index = batch.next()
                if index is None:
                    return
                order, cell = batch.begin(index)
                session.at_once = len(batch.running)
                worker.work_on(index, order, cell, session.catalogue.target(order.kind_name))

    def _listen(self, session: Session, batch: Batch) -> None:
        for key, _ in self._selector.select(POLL_SECONDS):
            worker: _Worker = key.data
            messages, alive = worker.read()
            for message in messages:
                self._hear(worker, message, batch)
            if not alive:
                self._selector.unregister(worker.out)
                self._workers.remove(worker)
                self._lost(worker, batch)
            session.at_once = max(1, len(batch.running))

    def _hear(self, worker: _Worker, message: Message, batch: Batch) -> None:
        if message["say"] == "ready":
            worker.ready = True
        elif not worker.tells(batch.running[worker.index], message):
            index, cell = worker.index, batch.running[worker.index]
            worker.index = -1
            cell.pause()
            try:
                how = _ended(cell, message, worker)
            except (BloomeryError, OSError) as error:
                how = error
            batch.end(index, how)

    def _lost(self, worker: _Worker, batch: Batch) -> None:
        error = worker.end()
        if worker.index >= 0:
            batch.running[worker.index].pause()
            batch.end(worker.index, error)
        elif not worker.ready:  # the next one would do no better
            batch.break_off(error)


def _ended(cell: Underway, message: Message, worker: _Worker) -> Cell | Exception | None:
    """What became of a cell; the exceptions are for others to raise."""
    match message["say"]:
        case "finished":
            return cell.seal(wire.result_from_json(message["result"]))
        case "diverged":
            return cell.diverged(message["why"])
        case "failed":
            return cell.failed(message["why"])
        case "stopped":
            return None
        case "error":
            return wire.error_from_json(message["error"])
        case "system":
            return OSError(message["number"], message["text"], message["file"])
        case "broke":
            return WorkerError(
                _name(cell), f"broke off: {message['why']}", hint=f"this is a bug; its traceback is in {worker.log}"
            )
        case other:
            raise AssertionError(other)


def _name(cell: Underway) -> str:
    return f"{cell.job.stage} {cell.job.who} seed {cell.job.seed}"


class _Worker:
    """One process, from here."""

    def __init__(self, number: int, session: Session, lock: int, preload: Sequence[str]) -> None:
        self.number, self.log = number, session.folder / f"worker-{number}.log"
        self.ready, self.index = False, -1
        """index: of the order it works on."""
        self._name, self._asked, self._rest = f"worker {number}", False, b""
        self._process = _start_process(self.log, session.threads, lock)
        assert self._process.stdout is not None
        self.out = self._process.stdout.fileno()
        around = wire.surroundings_to_json(Surroundings.of(session))
        self._send({"say": "surroundings", "around": around, "preload": list(preload)})

    def work_on(self, index: int, order: Order, cell: Underway, target: str) -> None:
        self.index, self._asked, self._name = index, False, _name(cell)
        self._send({
            "say": "cell",
            "target": target,
            "settings": order.config.model_dump(mode="json"),
            "job": wire.job_to_json(order.job),
            "known": [one.to_json() for one in cell.known()],
        })  # fmt: skip

    def stop(self, reason: StopReason) -> None:
        """Ask it to save, once a cell."""
        if not self._asked:
            self._asked = True
            self._send({"say": "stop", "reason": reason})

    def tells(self, cell: Underway, message: Message) -> bool:
        """Pass on what a cell tells on its way; False: it has ended."""
        match message["say"]:
            case "spend":
                cell.spend(tokens=message["tokens"], flops=message["flops"])
            case "progress":
                cell.progress(**message["facts"])
            case "measured":
                cell.measured(Measurement.from_json(message["measurement"]))
            case "point":
                cell.point(**message["facts"])
            case "note":
                cell.note(message["event"], **message["facts"])
            case _:
                return False
        if message["say"] in ("measured", "point", "note"):
            self._send({"say": "written"})
        return True

    def read(self) -> tuple[list[Message], bool]:
        """What it has said, and whether there can be more."""
        got = os.read(self.out, 1 << 20)
        *lines, self._rest = (self._rest + got).split(b"\n")
        return [wire.from_line(line) for line in lines], bool(got)

    def _send(self, message: Message) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it is gone; the end of its stdout says so
            self._process.stdin.write(wire.to_line(message))
            self._process.stdin.flush()

    def end(self) -> BloomeryError:
        """It has ended by itself: why, as far as that is known."""
        code = self._process.wait()
        self._close_pipes()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        last = "\n".join(self.log.read_text(errors="replace").splitlines()[-LAST_LINES:])
        hint = "the rest is saved; run again to go on"
        if code == -signal.SIGKILL:
            hint += ", with fewer --workers if the memory ran out"
        return WorkerError(
            self._name, f"its worker process {how}", hint=f"{hint}; the end of {self.log}:\n{last or '(empty)'}"
        )

    def dismiss(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()

    def wait(self) -> None:
        try:
            self._process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_pipes()
        with suppress(OSError):
            if not self.log.stat().st_size:
                self.log.unlink()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def _start_process(log: Path, threads: int, lock: int) -> subprocess.Popen[bytes]:
    """With this process's import path, and with signals blocked until it has seen to them itself."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }
    command = [sys.executable, "-P", "-m", "bloomery.engine.worker", str(os.getpid()), str(lock)]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        with log.open("wb") as errors:
            return subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment,
                pass_fds=(lock,),
            )  # fmt: skip
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
