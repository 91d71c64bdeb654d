"""Progress of a run: a live bar for each cell at work in a terminal, plain lines elsewhere. Shown, never stored."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bloomery.engine.events import Event

PLAIN_LINE_EVERY_SECONDS = 10.0
MARKS = {"pass": "[green]pass[/]", "fail": "[red]FAIL[/]", "inconclusive": "[yellow]inconclusive[/]"}


class Display:
    """An observer for engine.session: prints what a person wants to know while a plan runs."""

    def __init__(self, console: Console, *, wall_cap_seconds: float | None = None) -> None:
        self.console, self._cap = console, wall_cap_seconds
        self._began = time.monotonic()
        self._lines: dict[str, float] = {}
        """{cell: when a line last told of it}"""
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, event: Event) -> None:
        match event["event"]:
            case "progress":
                self._progress(event)
            case "preparing":
                if self.console.is_terminal:
                    self.console.print(f"[dim]data: {escape(str(event.get('text', '')))}[/]")
            case "data_ready":
                self._line(
                    f"data: {event['documents']:,} documents, {event['tokens']:,} tokens ({event['digest'][:10]})"
                )
            case "stage_started":
                who = ", ".join(f"{cell['who']} seed {cell['seed']}" for cell in event["cells"])
                self._line(f"[bold]{event['stage']}[/] attempt {event['attempt']}: {who}")
            case "twin_solved":
                self._line(
                    f"  control: {_shape(event['patch'])}, {event['off_by']:+.2%} off in {event['match']} parameters"
                )
            case "cell_started":
                self._drop(_cell(event))
                self._lines[_cell(event)] = time.monotonic()
            case "cell_finished":
                self._drop(_cell(event))
                rate = event["tokens"] / event["seconds"] if event["seconds"] else 0.0
                self._line(
                    f"  {_cell(event)}: done in {event['seconds']:.0f} s, {rate:,.0f} tokens/s, "
                    f"weights {event['hashes'].get('weights', '-')[:10]}"
                )
            case "cell_reused":
                self._line(f"  {_cell(event)}: unchanged, taken from attempt {event['of'][1]}")
            case "cell_failed":
                self._drop(_cell(event))
                self._line(f"  [red]{_cell(event)}: {escape(event['error'])}[/]")
            case "evaluating":
                self._line(f"  [dim]judging {event['who']} seed {event['seed']} on {event['suite']}[/]")
            case "stage_skipped":
                self._line(f"[bold]{event['stage']}[/]: skipped, {escape(event['why'])}")
            case "note":
                self._line(f"  [yellow]note: {escape(event['text'])}[/]")
            case "verdict":
                self._close()
                mark = MARKS.get(event["status"], event["status"])
                self._line(f"[bold]{event['stage']}[/] attempt {event['attempt']}: {mark}")
            case "decision" if event["action"] != "go_on" or event.get("rule"):
                because = f": {escape(event['because'])}" if event.get("because") else ""
                self._line(f"  -> {event['action'].replace('_', ' ')} {escape(event.get('rule', ''))}{because}")
            case _:
                pass

    def close(self) -> None:
        self._close()

    def _progress(self, event: Event) -> None:
        step, steps, cell = event["step"], event["steps"], _cell(event)
        if self.console.is_terminal:
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"),
                    TimeRemainingColumn(), console=self.console, transient=True,
                )  # fmt: skip
                self._bars.start()
            if cell not in self._tasks:
                self._tasks[cell] = self._bars.add_task(cell, total=steps, facts="")
            self._bars.update(self._tasks[cell], completed=step, facts=self._facts(event))
        elif time.monotonic() - self._lines.setdefault(cell, self._began) > PLAIN_LINE_EVERY_SECONDS:
            left = (steps - step) * event["tokens"] / max(step, 1) / max(event["tokens_per_second"], 1e-9)
            self._line(f"  {cell}: step {step}/{steps}, {self._facts(event)}, {left:.0f} s left")
            self._lines[cell] = time.monotonic()

    def _facts(self, event: Event) -> str:
        facts = f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s"
        if self._cap:
            facts += f", budget {time.monotonic() - self._began:.0f}/{self._cap:.0f} s"
        return facts

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)

    def _drop(self, cell: str) -> None:
        """A cell's bar goes; the last one takes the live display with it."""
        task = self._tasks.pop(cell, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
        if not self._tasks:
            self._close()

    def _close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
        self._bars = None
        self._tasks.clear()


def _cell(event: Event) -> str:
    return f"{event['stage']} {event['who']} seed {event['seed']}"


def _shape(model: dict[str, Any]) -> str:
    return ", ".join(f"{key} {model[key]}" for key in ("system", "layers", "width", "feed_forward") if model.get(key))
