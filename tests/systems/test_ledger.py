"""A system that is marked complete has a plan for every row of its ledger."""

from collections.abc import Iterable
from dataclasses import replace

from bloomery.engine.discover import DENSE, System, catalogue
from bloomery.plan.ledger import ledger
from bloomery.plan.schema import Plan
from bloomery.report.claims import bundled


def owed(systems: Iterable[System], plans: Iterable[Plan]) -> dict[str, list[str]]:
    """{complete system: the rows that no plan of its names}, only where there are some."""
    plans = list(plans)
    found = {
        system.name: [row.id for row in ledger().unnamed(system.name, plans)]
        for system in systems
        if system.state == "complete"
    }
    return {name: rows for name, rows in found.items() if rows}


def test_complete_systems_owe_no_row() -> None:
    systems = [catalogue.system(name) for name in catalogue.systems()]
    assert DENSE in systems
    assert owed(systems, bundled()) == {}


def test_a_complete_system_that_leaves_out_one_row_would_be_noticed() -> None:
    rows = [row.id for row in ledger().rows if row.system == "felix"]
    felix = replace(DENSE, name="felix", state="complete")
    assert owed([felix], [plan("felix", rows)]) == {}
    assert owed([felix], [plan("felix", rows[:30]), plan("felix", rows[31:])]) == {"felix": ["F-31"]}
    assert owed([felix], [plan("agp", rows)]) == {"felix": rows}, "a plan of another system answers for nothing"
    assert owed([replace(felix, state="first")], []) == {}


def plan(system: str, rows: list[str]) -> Plan:
    condition = {"metric": "text/loss", "of": "stage:one", "op": "<", "value": 1}
    claim = {"id": "some", "says": "s", "source": "t", "rows": rows, "gate": [condition]}
    stages = [{"id": "one", "kind": "pretrain"}]
    return Plan.model_validate(
        {"bloomery": 1, "name": f"{system}/some", "system": system, "stages": stages, "claims": [claim]}
    )
