"""`claims`: the ledger over all runs. Tables in a terminal, tab-separated lines in a pipe, JSON, or a Markdown file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from bloomery.cli.console import console
from bloomery.errors import ArtifactError

if TYPE_CHECKING:
    from bloomery.report.claims import Loose, Standing, Stock

STYLES = {"untested": "", "undecided": "yellow", "refuted": "red", "supported": "green"}


def claims(
    root: Path,
    *,
    system: str | None = None,
    verdict: str | None = None,
    as_json: bool = False,
    write: Path | None = None,
) -> None:
    """Print the rows of `system` with `verdict`; with `write`, put the whole ledger into a file instead."""
    from bloomery.plan.ledger import ledger
    from bloomery.report.claims import bundled, check_filters, take_stock

    check_filters(ledger(), system, verdict)
    stock = take_stock(ledger(), bundled(), root)
    if write is not None:
        from bloomery.report.claims_page import page

        _write(write, page(ledger(), stock))
    counts = stock.only(system, None).counts()
    shown = stock.only(system, verdict)
    if as_json:
        from bloomery.report.claims_words import to_json

        print(json.dumps(to_json(shown, counts), indent=1))
    elif write is not None:
        print(write)
    elif sys.stdout.isatty():
        screen = console()
        for table in tables(shown, counts):
            screen.print(table)
        screen.print(closing(shown), highlight=False, markup=False)
    else:
        for line in lines(shown, counts):
            print(line)


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ArtifactError(str(file), f"cannot be written: {error.strerror or error}", "a file name") from error


def lines(stock: Stock, counts: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The counts, then a header, then every row as one line; then claims without a row in the same columns."""
    from bloomery.report.claims_words import LINE_HEADER, line, loose_line

    for system, counted in counts.items():
        yield f"{system}: {', '.join(f'{amount} {name}' for name, amount in counted.items())}"
    for run, reason in stock.damaged:
        yield f"not read: {run}: {reason}"
    yield ""
    yield "\t".join(LINE_HEADER)
    for one in stock.standings:
        yield line(one)
    for one in stock.loose:
        yield loose_line(one)


def tables(stock: Stock, counts: Mapping[str, Mapping[str, int]]) -> Iterator[Table]:
    """Counts by system; the rows; claims that name no row."""
    summary = Table(title="claims ledger", title_justify="left")
    for column in ("system", *next(iter(counts.values()), ())):
        summary.add_column(column, justify="left" if column == "system" else "right")
    for system, counted in counts.items():
        summary.add_row(system, *map(str, counted.values()))
    if len(counts) > 1:
        columns = zip(*(one.values() for one in counts.values()), strict=True)
        summary.add_section()
        summary.add_row("all", *(str(sum(column)) for column in columns))
    yield summary
    if stock.standings:
        yield _rows(stock)
    if stock.loose:
        yield _loose(stock)


def _rows(stock: Stock) -> Table:
    table = Table(title="rows, untested first", title_justify="left", show_lines=True)
    table.add_column("row", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for column in ("claim", "evidence", "worthless without"):
        table.add_column(column, ratio=1, overflow="fold")
    for one in stock.standings:
        row = one.row
        texts = (row.id, one.verdict, row.claim, _evidence(one), row.control)
        table.add_row(*map(Text, texts), style=STYLES[one.verdict])
    return table


def _loose(stock: Stock) -> Table:
    table = Table(title="claims that name no row of the ledger", title_justify="left", show_lines=True)
    table.add_column("verdict", no_wrap=True)
    for column in ("plan and claim", "says", "evidence"):
        table.add_column(column, ratio=1, overflow="fold")
    for one in stock.loose:
        missing = f"names {', '.join(one.unknown)}, which the ledger has not" if one.unknown else ""
        texts = (one.verdict, f"{one.plan} ({one.claim})", one.says, _joined(missing, *_answered(one)))
        table.add_row(*map(Text, texts), style=STYLES[one.verdict])
    return table


def _evidence(one: Standing) -> str:
    from bloomery.report.claims_words import named_by

    if one.answers:
        return _joined(*_answered(one))
    named, waits = named_by(one), one.waits_for
    return _joined(
        f"waits for {waits}" if waits else "",
        f"{one.row.kind}; {one.row.tested_by}",
        f"named by {named}" if named else "",
    )


def _answered(one: Standing | Loose) -> tuple[str, ...]:
    from bloomery.report.claims_words import found, needs, origin

    if not one.answers:
        return ()
    first = one.answers[0]
    disagree = f"answers disagree: {one.disagree}" if one.disagree else ""
    return found(first), needs(first), origin(first), disagree


def _joined(*parts: str) -> str:
    return "\n".join(part for part in parts if part)


def closing(stock: Stock) -> str:
    said = [f"not read: {run}: {reason}" for run, reason in stock.damaged]
    said.append(f"runs read: {stock.runs}")
    said.append("fewer rows: --system NAME, --status VERDICT; everything: --json; a page: --write claims.md")
    return "\n".join(said)
