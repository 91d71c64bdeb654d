"""`status`, `runs`, `show`, `compare` and `report`: reading what runs have left. No run is changed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from bloomery.cli.console import console

if TYPE_CHECKING:
    from bloomery.report.grid import Grid
    from bloomery.report.view import RunView

STYLES = {"pass": "green", "fail": "red", "missing": "red", "inconclusive": "yellow"}


def find_run(name: str, root: Path) -> Path:
    """A run's folder from its name below `root`, its folder, or the short name of a bundled plan."""
    from bloomery.engine import store

    for folder in (root / name, Path(name)):
        if (folder / "events.jsonl").exists():
            return folder
    return store.find_run(root, name).folder


def view_of(name: str, root: Path) -> RunView:
    from bloomery.report.view import RunView

    return RunView.read(find_run(name, root))


def print_table(screen: Console, view: RunView) -> None:
    from bloomery.report.table import HEADER, closing_rows

    table = Table(*HEADER, title=view.header.plan, title_justify="left")
    for row in closing_rows(view):
        table.add_row(*map(Text, row.cells()), style=STYLES.get(row.status, ""))
    screen.print(table)


def print_grid(screen: Console, grid: Grid) -> None:
    columns = [Column(escape(name), overflow="fold") for name in grid.header]
    table = Table(*columns, title=escape(grid.caption), title_justify="left")
    for position, row in enumerate(grid.rows):
        tone = grid.tones[position] if position < len(grid.tones) else ""
        table.add_row(*map(Text, row), style=STYLES.get(tone, ""))
    screen.print(table)
    for remark in grid.remarks:
        screen.print(f"- {remark}", highlight=False, markup=False)


def status(name: str, root: Path, *, as_json: bool) -> None:
    from bloomery.report import answers, cycles, now, standing

    view = view_of(name, root)
    improver = now.improver_of(view)
    following = now.what_now(view, improver)
    if as_json:
        facts = {
            "run": view.header.run, "status": view.status, "stages": standing.stages(view),
            "looks": {stage.id: len(stage.looks) for stage in view.stages if stage.looks},
            "loops": {one.id: {"kept": one.kept, "of": one.of, "ended": one.end is not None} for one in view.loops},
            "claims": {claim.id: claim.status for claim in view.claims}, "next": following.command,
            "why": following.why, "improver": improver.to_json() if improver is not None else None,
        }  # fmt: skip
        print(json.dumps(facts))
        return
    print(f"{view.header.run}: {view.status}")
    for stage in view.stages:
        print(f"  {stage.id}: {standing.line(stage)}")
    for loop in view.loops:
        print(f"  loop {loop.id}: {cycles.kept_words(loop)} kept{'' if loop.end is not None else ' so far'}")
    if counts := answers.count_words(view):
        print(f"claims: {counts}")
    for line in improver.lines() if improver is not None else ():
        print(line)
    print(f"next: {following.command}")
    for line in following.why.splitlines():
        print(f"      {line}")


def runs(root: Path, *, as_json: bool) -> None:
    from bloomery.engine.store import list_runs

    found = list_runs(root)
    if as_json:
        print(json.dumps([asdict(run) for run in found], indent=1, default=str))
        return
    if not found:
        print(f"no runs in {root}\nnext: bloomery run quickstart")
        return
    table = Table("run", "status", "mode", "opened")
    for run in found:
        table.add_row(run.run, run.status, run.mode, run.opened)
    console().print(table)


def show(name: str, root: Path, *, as_json: bool) -> None:
    from bloomery.report.showing import grids
    from bloomery.report.table import closing_rows

    view = view_of(name, root)
    if as_json:
        print(json.dumps([asdict(row) for row in closing_rows(view)], indent=1))
        return
    screen = console()
    print_table(screen, view)
    for grid in grids(view):
        print_grid(screen, grid)


def compare(names: list[str], root: Path, *, as_json: bool) -> None:
    from bloomery.report.compare import compare as compare_views

    rows = compare_views([view_of(name, root) for name in names])
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    console().print(table)


def report(name: str, root: Path) -> None:
    from bloomery.report.page import write_report

    print(write_report(find_run(name, root)))
