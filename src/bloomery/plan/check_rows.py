"""Checks the ledger rows that a plan's claims name: that there are such rows, and whose they are.

The ledger is read only where a claim names a row: most plans name none, and `check` is to be quick.
"""

from __future__ import annotations

from bloomery.plan.look import Look


def check(look: Look) -> None:
    if not any(claim.rows for claim in look.plan.claims):
        return
    from bloomery.plan.ledger import ledger

    known = ledger().by_id()
    for index, claim in enumerate(look.plan.claims):
        for place, name in enumerate(claim.rows):
            path = ("claims", index, "rows", place)
            if name not in known:
                look.problem(path, f"the claims ledger has no row '{name}'", "the id of a row", ledger().hint(name))
            elif name in claim.rows[:place]:
                look.problem(path, f"the row {name} a second time", "each row once in a claim")
            elif known[name].system != look.plan.system:
                what = f"{name} is a row of {known[name].system}, and this is a plan of {look.plan.system}"
                look.warn(path, what, "a row counts as settled only by a plan of its own system")
