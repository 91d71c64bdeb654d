"""`run` and `register`: from a plan file to a verdict, with a way back after every interruption."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from bloomery.cli.planning import load_plan, refuse


def run(plan: str, overrides: list[str], runs: Path, device: str, threads: int) -> int:
    """Check, then launch; write the report whatever came of it; say what to do next."""
    threads = threads or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    console = Console(soft_wrap=True)
    loaded = load_plan(plan, overrides)
    refuse(loaded)

    from bloomery.cli.display import Display
    from bloomery.engine.discover import catalogue
    from bloomery.engine.launch import Launch, launch
    from bloomery.train.device import choose_device

    chosen = choose_device(device)
    display = Display(console, wall_cap_seconds=loaded.plan.budget.wall)
    with _signals() as caught:
        how = Launch(runs, chosen.value, threads, display, lambda: bool(caught))
        folder = how.folder(loaded)
        console.print(f"[bold]{loaded.plan.name}[/] on {chosen.value}, {threads} threads, in {folder}", highlight=False)
        try:
            outcome = launch(loaded, catalogue, how)
        finally:
            display.close()
    code = outcome.exit_code
    if outcome.status == "interrupted":
        code = 128 + caught[0]
        console.print(f"interrupted; everything is saved. To go on: bloomery run {_again(plan, overrides, runs)}")
    _close(console, folder)
    if outcome.reason:
        console.print(escape(outcome.reason))
    return code


def _close(console: Console, folder: Path) -> None:
    from bloomery.cli.reading import print_table
    from bloomery.report.page import write_report
    from bloomery.report.table import next_command
    from bloomery.report.view import RunView

    view = RunView.read(folder)
    print_table(console, view)
    console.print(f"report: {write_report(folder)}", highlight=False)
    following = next_command(view)
    console.print(f"next:   {following.command}\n        {following.why}", highlight=False, markup=False)


def register(plan: str, amend: str | None, runs: Path) -> None:
    from bloomery.engine.events import EventLog
    from bloomery.engine.rundir import REGISTRATION_LOG, Lock, commit_of, run_folder
    from bloomery.plan import registration

    loaded = load_plan(plan, [])
    refuse(loaded)
    folder = run_folder(runs, loaded.plan.name, ())
    log = folder / REGISTRATION_LOG
    with Lock(folder):
        commit = commit_of(loaded.source)
        record = (
            registration.register(log, loaded, commit=commit)
            if amend is None
            else registration.amend(log, loaded, amend, commit=commit)
        )
        EventLog(folder / "events.jsonl").write(**record.event())
    print(f"{'amended' if amend else 'registered'} {loaded.plan.name} as {record.digest[:12]}")
    if record.changed:
        print(f"changed: {', '.join(record.changed)}")
    print(f"next: bloomery run {plan}")


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The first SIGINT or SIGTERM asks the run to save and stop; a second one is the system's own."""
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _again(plan: str, overrides: list[str], runs: Path) -> str:
    words = [plan] + [f"--set '{override}'" for override in overrides]
    if runs != Path("runs"):
        words.append(f"--runs {runs}")
    return " ".join(words)
