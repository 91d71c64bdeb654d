"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from bloomery.engine.budget import Amounts, about_bytes
from bloomery.engine.pricing import PricedPlan
from bloomery.engine.stage import Cost
from bloomery.plan.detectable import Detectable
from bloomery.plan.ledger import Row
from bloomery.plan.runs import PlannedRun


def budget_tables(priced: PricedPlan) -> Iterator[Table]:
    """Parameters, bytes, and what walks cost."""
    counted = Table(title=f"{priced.plan}: parameters", title_justify="left")
    for column in ("stage", "who", "group", "stored", "active", "frozen", "bytes"):
        counted.add_column(column, justify="left" if column in ("stage", "who", "group") else "right")
    claims_more = any(line.cost.tally and line.cost.tally.dense_equivalent for line in priced.lines)
    if claims_more:
        counted.add_column("dense equivalent", justify="right")
    for line in priced.lines:
        if line.cost.tally is None:
            continue
        for name, group in line.cost.tally.groups.items():
            counted.add_row(
                line.stage, line.who, name, f"{group.stored:,}", f"{group.active:,}", f"{group.frozen:,}",
                about_bytes(group.bytes),
            )  # fmt: skip
        tally = line.cost.tally
        counted.add_row(
            line.stage, line.who, "all", f"{tally.stored:,}", f"{tally.total('active'):,.0f}",
            f"{tally.total('frozen'):,.0f}", about_bytes(tally.bytes),
            *([f"{tally.dense_equivalent or tally.stored:,}"] if claims_more else []), style="bold", end_section=True,
        )  # fmt: skip
    yield counted

    memory = Table(title="peak memory of one cell (activations are an estimate)", title_justify="left")
    for column in ("stage", "who", "weights", "gradients", "optimiser", "activations", "all"):
        memory.add_column(column, justify="left" if column in ("stage", "who") else "right")
    for line in priced.lines:
        cost = line.cost
        parts = (cost.weight_bytes, cost.gradient_bytes, cost.optimiser_bytes, cost.activation_bytes, cost.memory_bytes)
        memory.add_row(line.stage, line.who, *map(about_bytes, parts))
    yield memory

    made = [(line.stage, line.who, line.cost) for line in priced.lines if line.cost.generated_bytes]
    if made:
        yield _recomputed(made)

    device = priced.device
    spending = Table(
        title=f"spending on {device.title}: peak x {device.utilisation:.0%} utilisation, {device.watts:g} W",
        title_justify="left",
    )
    for column in ("what", "cells", "tokens", "FLOPs", "hours", "kWh", "USD"):
        spending.add_column(column, justify="left" if column == "what" else "right")
    for line in priced.lines:
        spending.add_row(f"{line.stage}, {line.who}", str(line.cells), *_amounts(line.price.amounts))
    spending.add_row("the first walk", "", *_amounts(priced.first_walk), style="bold", end_section=True)
    for remedy in priced.remedies:
        words = f"remedy '{remedy.rule}' of {remedy.stage}" + (f", each of {remedy.uses}" if remedy.uses > 1 else "")
        spending.add_row(words, "", *_amounts(remedy.adds))
    if priced.remedies:
        spending.add_row("every remedy used", "", *_amounts(priced.worst_case), style="bold")
    yield spending


def _recomputed(made: Sequence[tuple[str, str, Cost]]) -> Table:
    """What it saves that backward makes generated weights again."""
    title = "generated weights: kept from forward to backward, or made again one matrix at a time, as they are"
    table = Table(title=title, title_justify="left")
    for column in ("stage", "who", "kept", "made again", "saved"):
        table.add_column(column, justify="left" if column in ("stage", "who") else "right")
    for stage, who, cost in made:
        kept, again = cost.generated_bytes, cost.largest_generated_bytes
        table.add_row(stage, who, *map(about_bytes, (kept, again, kept - again)))
    return table


def arithmetic_table(rows: Sequence[Row]) -> Table:
    """What the ledger says of numbers that the plan is counted for."""
    table = Table(title="what the seed says of it, and what adds up", title_justify="left", show_lines=True)
    for column in ("row", "claim", "status", "arithmetic"):
        table.add_column(column)
    for row in rows:
        table.add_row(row.id, row.claim, row.status, row.known)
    return table


def runs_table(runs: Sequence[PlannedRun]) -> Table:
    """What the first walk trains and fits, and why."""
    table = Table(title="runs of the first walk", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("stage", "who", "runs", "why"):
        table.add_column(column, justify="right" if column == "runs" else "left")
    for run in runs:
        number = f"at most {run.cells}" if run.at_most else str(run.cells)
        table.add_row(run.stage, run.party, number, run.why)
    return table


def detectable_table(found: Sequence[Detectable]) -> Table:
    """What the items of each gate can tell apart."""
    table = Table(title="what the gates can tell apart", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for column in ("stage", "condition", "items", "smallest difference", "which means"):
        table.add_column(column, justify="right" if column in ("items", "smallest difference") else "left")
    for one in found:
        words = f"{'at most ' if one.at_most else ''}{100 * one.difference:.1f} points"
        table.add_row(one.stage, one.condition, f"{one.items:,}", words, one.means)
    return table


def _amounts(amounts: Amounts) -> tuple[str, ...]:
    return (
        f"{amounts.tokens:,.0f}", f"{amounts.flops:.3g}", f"{amounts.seconds / 3600:,.3g}", f"{amounts.kwh:.3g}",
        f"{amounts.money:,.3g}",
    )  # fmt: skip
