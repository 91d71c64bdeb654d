"""Bars of what is at work: live in a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from bloomery.report.wording import duration

PLAIN_LINE_EVERY_SECONDS = 10.0


@dataclass
class Bars:
    console: Console
    clock: Callable[[], float] = time.monotonic
    _live: Progress | None = None
    _tasks: dict[str, TaskID] = field(default_factory=dict)
    _told: dict[str, float] = field(default_factory=dict)
    """{name: when a line last told of it, or when it began}"""

    def begin(self, name: str) -> None:
        """From now on, not from when it is first heard of, counts until a plain line."""
        self._told[name] = self.clock()

    def show(self, name: str, done: int, total: int, plain: str, facts: str) -> None:
        """plain: what a line says before the facts; a bar shows it by itself."""
        if self.console.is_terminal:
            if self._live is None:
                self._live = Progress(
                    TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"),
                    console=self.console, transient=True,
                )  # fmt: skip
                self._live.start()
            if name not in self._tasks:
                self._tasks[name] = self._live.add_task(name, total=total, facts="")
            self._live.update(self._tasks[name], completed=done, facts=facts)
        elif self.clock() - self._told.setdefault(name, self.clock()) > PLAIN_LINE_EVERY_SECONDS:
            self.console.print(f"  {name}: {plain}, {facts}", highlight=False, soft_wrap=True)
            self._told[name] = self.clock()

    def drop(self, name: str) -> None:
        """Its bar goes; the last one takes the live display with it."""
        self._told.pop(name, None)
        task = self._tasks.pop(name, None)
        if self._live is not None and task is not None:
            self._live.remove_task(task)
        if not self._tasks:
            self.close()

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
        self._live = None
        self._tasks.clear()


@dataclass
class Judging:
    """A listener for evaluate.progress: `  judging: 120 of 500 windows, 12 a second, 32 s left`."""

    bars: Bars
    _what: str = ""
    _began: float = 0.0
    _from: int = 0

    def __call__(self, done: int, total: int, what: str) -> None:
        now = self.bars.clock()
        if what != self._what:
            self._what, self._began, self._from = what, now, done
            self.bars.begin("judging")
        if done >= total:
            self._what = ""
            self.bars.drop("judging")
            return
        rate = (done - self._from) / max(now - self._began, 1e-9)
        if rate > 0:
            facts = f"{rate:,.3g} a second, {duration((total - done) / rate)} left"
            self.bars.show("judging", done, total, f"{done:,} of {total:,} {what}", facts)
