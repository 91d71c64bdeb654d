"""Progress of a run: live bars in a terminal, plain lines elsewhere. Shown, never stored."""

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
        self._began = self._last_line = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

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
                self._close()
            case "cell_finished":
                self._close()
                rate = event["tokens"] / event["seconds"] if event["seconds"] else 0.0
                self._line(
                    f"  {_cell(event)}: done in {event['seconds']:.0f} s, {rate:,.0f} tokens/s, "
                    f"weights {event['hashes'].get('weights', '-')[:10]}"
                )
            case "cell_reused":
                self._line(f"  {_cell(event)}: unchanged, taken from attempt {event['of'][1]}")
            case "cell_failed":
                self._line(f"  [red]{_cell(event)}: {escape(event['error'])}[/]")
            case "packed" if not event.get("repeated"):
                size = f"{event['bytes']:,} bytes, {event['bits_per_weight']:.2f} bits a weight"
                self._line(f"  [dim]packed {event['who']} seed {event['seed']} by {event['codec']}: {size}[/]")
            case "evaluating":
                self._line(f"  [dim]judging {event['who']} seed {event['seed']} on {event['suite']}[/]")
            case "stage_skipped":
                self._line(f"[bold]{event['stage']}[/]: skipped, {escape(event['why'])}")
            case "note" if not event.get("repeated"):
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
        step, steps = event["step"], event["steps"]
        if self.console.is_terminal:
            if self._bar is None:
                self._bar = Progress(
                    TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"),
                    TimeRemainingColumn(), console=self.console, transient=True,
                )  # fmt: skip
                self._task = self._bar.add_task(_cell(event), total=steps, facts="")
                self._bar.start()
            assert self._task is not None
            self._bar.update(self._task, completed=step, facts=self._facts(event))
        elif time.monotonic() - self._last_line > PLAIN_LINE_EVERY_SECONDS:
            left = (steps - step) * event["tokens"] / max(step, 1) / max(event["tokens_per_second"], 1e-9)
            self._line(f"  {_cell(event)}: step {step}/{steps}, {self._facts(event)}, {left:.0f} s left")

    def _facts(self, event: Event) -> str:
        facts = f"loss {event['loss']:.3f}, {event['tokens_per_second']:,.0f} tokens/s"
        if self._cap:
            facts += f", budget {time.monotonic() - self._began:.0f}/{self._cap:.0f} s"
        return facts

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self.console.print(text, highlight=False, soft_wrap=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar, self._task = None, None


def _cell(event: Event) -> str:
    return f"{event['stage']} {event['who']} seed {event['seed']}"


def _shape(model: dict[str, Any]) -> str:
    return ", ".join(f"{key} {model[key]}" for key in ("system", "layers", "width", "feed_forward") if model.get(key))
