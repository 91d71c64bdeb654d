"""`status`, `runs`, `show`, `compare`, `claims` and `report`: reading what runs have left. No run is changed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bloomery.cli.console import console

if TYPE_CHECKING:
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


def status(name: str, root: Path, *, as_json: bool) -> None:
    from bloomery.report.table import next_command

    view = view_of(name, root)
    following = next_command(view)
    stages = {
        stage.id: (stage.last.verdict.status if stage.last.verdict else "running") if stage.last else "waiting"
        for stage in view.stages
    }
    if as_json:
        print(json.dumps({"run": view.header.run, "status": view.status, "stages": stages, "next": following.command}))
        return
    print(f"{view.header.run}: {view.status}")
    for stage, state in stages.items():
        print(f"  {stage}: {state}")
    print(f"next: {following.command}")


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
    from bloomery.report.table import closing_rows

    view = view_of(name, root)
    if as_json:
        print(json.dumps([asdict(row) for row in closing_rows(view)], indent=1))
    else:
        print_table(console(), view)


def compare(names: list[str], root: Path, *, as_json: bool) -> None:
    from bloomery.report.table import compare as compare_views

    rows = compare_views([view_of(name, root) for name in names])
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    console().print(table)


def claims(root: Path, *, as_json: bool) -> None:
    """What bundled plans claim. No run judges claims yet, so every row says untested."""
    from bloomery.plan.find import bundled_plans
    from bloomery.plan.load import load

    rows = [
        {"claim": claim.id, "plan": plan.name, "says": claim.says, "source": claim.source, "verdict": "untested"}
        for plan in bundled_plans()
        for claim in load(plan.path).plan.claims
    ]
    if as_json:
        print(json.dumps(rows, indent=1))
    elif not rows:
        print("the bundled plans make no claims yet")
    else:
        table = Table("claim", "plan", "says", "source", "verdict")
        for row in rows:
            table.add_row(*row.values())
        console().print(table)


def report(name: str, root: Path) -> None:
    from bloomery.report.page import write_report

    print(write_report(find_run(name, root)))
