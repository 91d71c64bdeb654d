"""`run` and `register`: from a plan file to a verdict, with a way back after every interruption."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape

from bloomery.cli.console import console
from bloomery.cli.planning import load_plan, refuse
from bloomery.engine.resuming import check_known

PRELOAD = ("bloomery.train.loop", "bloomery.data.prepared")
"""What takes seconds to load, and nearly every cell needs."""


def run(
    plan: str,
    overrides: list[str],
    runs: Path,
    device: str,
    threads: int,
    *,
    workers: int = 1,
    allow_changed: list[str] | None = None,
    force: bool = False,
) -> int:
    """Check, then launch; write the report whatever came of it; say what to do next. The threads are divided among the
    workers."""
    check_known(allow_changed or [])
    threads = max(1, (threads or cores()) // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    screen = console()
    loaded = load_plan(plan, overrides)
    refuse(loaded)

    from bloomery.cli.bars import Judging
    from bloomery.cli.display import Display
    from bloomery.engine.discover import catalogue
    from bloomery.engine.events import read_events
    from bloomery.engine.launch import Launch, launch
    from bloomery.evaluate.progress import heard_by
    from bloomery.plan.load import resolve
    from bloomery.train.device import choose_device

    chosen = choose_device(device)
    display = Display(screen, plan=resolve(loaded), wall_cap_seconds=loaded.plan.budget.wall)
    with caught_signals() as caught:
        how = Launch(
            runs, chosen.value, threads, display, lambda: bool(caught),
            allow_changed=tuple(allow_changed or ()), force=force, workers=workers, preload=PRELOAD,
        )  # fmt: skip
        folder = how.folder(loaded)
        where = escape(str(folder))
        display.already(read_events(folder / "events.jsonl"))
        at_once = f"{workers} workers of " if workers > 1 else ""
        screen.print(
            f"[bold]{loaded.plan.name}[/] on {chosen.value}, {at_once}{threads} threads, in {where}", highlight=False
        )
        try:
            with heard_by(Judging(display.bars)):
                outcome = launch(loaded, catalogue, how)
        finally:
            display.close()
    code = outcome.exit_code
    if outcome.status == "interrupted":
        code = 128 + caught[0]
        again = _again(plan, overrides, runs, device, workers) + " --force" * force
        screen.print(f"interrupted; everything is saved. To go on: bloomery run {again}", highlight=False, markup=False)
    _close(screen, folder)
    if outcome.reason:
        screen.print(escape(outcome.reason))
    return code


def _close(screen: Console, folder: Path) -> None:
    from bloomery.cli.reading import print_table
    from bloomery.report.page import write_report
    from bloomery.report.table import next_command
    from bloomery.report.view import RunView

    view = RunView.read(folder)
    print_table(screen, view)
    screen.print(f"report: {write_report(folder)}", highlight=False, markup=False)
    following = next_command(view)
    screen.print(f"next:   {following.command}\n        {following.why}", highlight=False, markup=False)


def register(plan: str, amend: str | None, runs: Path) -> None:
    from bloomery.engine.events import EventLog, read_events
    from bloomery.engine.history import History, identity
    from bloomery.engine.rundir import REGISTRATION_LOG, Lock, commit_of, run_folder
    from bloomery.plan import registration

    loaded = load_plan(plan, [])
    refuse(loaded)
    folder = run_folder(runs, loaded.plan.name, ())
    log, commit = folder / REGISTRATION_LOG, commit_of(loaded.source)

    def write() -> registration.Registration:
        if amend is None:
            return registration.register(log, loaded, commit=commit)
        return registration.amend(log, loaded, amend, commit=commit)

    if loaded.exploratory or (amend is not None and not log.exists()):
        write()  # which says why it cannot be done; no folder is made for that
    with Lock(folder):
        record = write()
        events = folder / "events.jsonl"
        if identity(record.event()) not in History(read_events(events), events).seen:
            EventLog(events).write(**record.event())
    print(f"{'registered' if amend is None else 'amended'} {loaded.plan.name} as {record.digest[:12]}")
    if record.changed:
        print(f"changed: {', '.join(record.changed)}")
    print(f"next: bloomery run {plan}")


def cores() -> int:
    """Those that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def caught_signals() -> Iterator[list[int]]:
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


def _again(plan: str, overrides: list[str], runs: Path, device: str, workers: int) -> str:
    words = [shlex.quote(plan)] + [f"--set {shlex.quote(override)}" for override in overrides]
    if runs != Path("runs"):
        words.append(f"--runs {shlex.quote(str(runs))}")
    if device != "auto":
        words.append(f"--device {shlex.quote(device)}")
    if workers > 1:
        words.append(f"--workers {workers}")
    return " ".join(words)
