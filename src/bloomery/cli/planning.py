"""`plans`, `check`, `budget` and `schema`: everything that can be said before a plan runs."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bloomery.errors import PlanError, Problems

if TYPE_CHECKING:
    from bloomery.plan.check import Report
    from bloomery.plan.load import Loaded


def plans(*, as_json: bool) -> None:
    from bloomery.plan.find import bundled_plans

    found = bundled_plans()
    if as_json:
        print(
            json.dumps([{"name": plan.name, "about": plan.about, "path": str(plan.path)} for plan in found], indent=1)
        )
        return
    width = max((len(plan.name) for plan in found), default=0)
    for plan in found:
        print(f"{plan.name:<{width}}  {plan.about}")
    print("\nnext: bloomery check PLAN, bloomery budget PLAN, bloomery run PLAN")


def load_plan(plan: str, overrides: list[str]) -> Loaded:
    from bloomery.plan.load import load

    return load(plan, overrides)


def checked(loaded: Loaded) -> Report:
    from bloomery.engine.discover import catalogue
    from bloomery.plan.check import check

    return check(loaded, catalogue)


def refuse(loaded: Loaded) -> Report:
    """Raise Problems where the plan cannot be run as it stands."""
    report = checked(loaded)
    problems = list(report.problems)
    problems += [PlanError(note.where, note.what, hint=note.hint) for note in report.not_offered]
    if problems:
        raise Problems(problems)
    return report


def check(plan: str, overrides: list[str], *, as_json: bool) -> None:
    loaded = load_plan(plan, overrides)
    report = checked(loaded)
    if as_json:
        groups = ("problems", "not_offered", "warnings")
        said: dict[str, Any] = {group: [_as_json(one) for one in getattr(report, group)] for group in groups}
        said["runs"] = [run.to_json() for run in report.runs]
        said["detectable"] = [asdict(one) for one in report.detectable]
        print(
            json.dumps(
                {"plan": loaded.plan.name, "digest": loaded.digest, "walks": report.walks_bound, **said}, indent=1
            )
        )
    else:
        for title, group in (
            ("no installed system offers yet", report.not_offered),
            ("warning", report.warnings),
        ):
            for one in group:
                print(f"{title}: {one}")
        if report.runs:
            _print_runs(report)
        if report.detectable:
            from bloomery.cli.console import console
            from bloomery.cli.tables import detectable_table

            console().print(detectable_table(report.detectable))
        if not (report.problems or report.not_offered):
            stages = f"{len(loaded.plan.stages)} stage" + ("s" if len(loaded.plan.stages) != 1 else "")
            print(
                f"{loaded.plan.name}: {stages}, at most {report.walks_bound} walks, digest {loaded.digest[:12]}: ready"
            )
            print(f"next: bloomery budget {plan}, bloomery run {plan}")
    if report.problems:
        raise Problems(report.problems)
    if report.not_offered:
        sys.exit(2)


def _print_runs(report: Report) -> None:
    from bloomery.cli.console import console
    from bloomery.cli.tables import runs_table

    screen = console()
    screen.print(runs_table(report.runs))
    cells, loops = sum(run.cells for run in report.runs), any(run.at_most for run in report.runs)
    walks = f"at most {report.walks_bound} walks" if report.walks_bound > 1 else "one walk"
    screen.print(f"{'at most ' if loops else ''}{cells} runs in the first walk; {walks}", highlight=False)


def _as_json(error: Any) -> dict[str, str]:
    return {
        key: str(value) for key in ("where", "found", "what", "expected", "hint") if (value := getattr(error, key, ""))
    }


def schema() -> None:
    from bloomery.plan.jsonschema import plan_schema

    print(json.dumps(plan_schema(), indent=1))


def budget(plan: str, on: str, overrides: list[str], *, as_json: bool) -> None:
    from bloomery.engine.devices import find_device
    from bloomery.engine.discover import catalogue
    from bloomery.engine.pricing import price_plan
    from bloomery.plan.ledger import ledger

    loaded = load_plan(plan, overrides)
    refuse(loaded)
    priced = price_plan(loaded, catalogue, find_device(on))
    rows = ledger().counted_by(priced.plan)
    if as_json:
        print(json.dumps({**priced.to_json(), "rows": [row.model_dump() for row in rows]}, indent=1))
        return

    from bloomery.cli.console import console
    from bloomery.cli.tables import arithmetic_table, budget_tables

    screen = console()
    for table in budget_tables(priced):
        screen.print(table)
    if rows:
        screen.print(arithmetic_table(rows))
    for warning in priced.warnings:
        screen.print(f"warning: {warning}", style="yellow", highlight=False)
    screen.print(f"next: bloomery run {plan}", highlight=False)
