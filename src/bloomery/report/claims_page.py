"""The claims ledger as a Markdown page (docs/claims.md): legend, counts, a chapter a system, untested rows first.

Pure: the same ledger, plans and runs give the same text, byte for byte; no date and no path stands in it. Texts of the
ledger keep their `code`; texts that come from runs and plans stay text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bloomery.plan.ledger import Chapter, Ledger
from bloomery.report import claims_words as words
from bloomery.report import wording
from bloomery.report.claims import VERDICTS, Answer, Loose, Standing, Stock
from bloomery.report.markdown import inline


def page(ledger: Ledger, stock: Stock) -> str:
    legend = ledger.legend
    parts = [
        "# The claims ledger",
        "<!-- Written by `bloomery claims --write`; do not edit. -->",
        told(legend.about),
        told(legend.use),
        _read_from(stock),
        "## How to read it",
        _bullets(f"**{name}**: {told(text)}." for name, text in legend.words.items()),
        "Kinds:",
        _bullets(f"`{name}`: {told(text)}." for name, text in legend.kinds.items()),
        "Status before any plan ran:",
        _bullets(f"`{name}`: {told(text)}." for name, text in legend.statuses.items()),
        "Marks in *known before*:",
        _bullets(f"\\[{name}\\] {told(text)}." for name, text in legend.marks.items()),
        "Throughout:",
        _bullets(told(text) for text in legend.notes),
        "## Count",
        _counts(ledger, stock),
        *(_chapter(chapter, stock) for chapter in ledger.chapters),
        _loose(stock.loose),
        "## Claims the seeds share",
        _bullets(told(text) for text in legend.shared),
        "## Sources",
        _bullets(told(text) for text in legend.sources),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def told(text: str) -> str:
    """A text of the ledger: `code` and *emphasised* words stay, everything else that Markdown could read is escaped."""
    pieces = re.split(r"(`[^`]+`|(?<!\S)\*\w+\*(?!\w))", " ".join(text.split()))
    return "".join(
        piece.replace("|", r"\|") if place % 2 else re.sub(r"([\\*_|#])", r"\\\1", _entities(piece))
        for place, piece in enumerate(pieces)
    )


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _read_from(stock: Stock) -> str:
    if not stock.runs:
        text = "This page was written from no runs."
        if any(one.answers for one in stock.standings):
            text += " Its verdicts were recorded when their runs were made, or need none; each says where it stands."
        return text
    text = f"Written from {stock.runs} run{'s' if stock.runs > 1 else ''}."
    for run, reason in stock.damaged:
        text += f" Not read: {inline(run)} ({inline(reason)})."
    return text


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table of cells that are Markdown already."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell or wording.NOTHING for cell in row)} |" for row in rows)])


def _counts(ledger: Ledger, stock: Stock) -> str:
    counted = stock.counts()
    kinds, statuses = tuple(ledger.legend.kinds), tuple(ledger.legend.statuses)
    rows: list[tuple[str, list[int]]] = []
    for chapter in ledger.chapters:
        now = counted.get(chapter.system, dict.fromkeys(VERDICTS, 0))
        numbers = [len(chapter.rows), *(now[verdict] for verdict in VERDICTS)]
        numbers += [sum(row.kind == kind for row in chapter.rows) for kind in kinds]
        numbers += [sum(row.status == status for row in chapter.rows) for status in statuses]
        rows.append((f"[{chapter.letter} {chapter.system}](#{chapter.system})", numbers))
    rows.append(("all", [sum(column) for column in zip(*(numbers for _, numbers in rows), strict=True)]))
    header = ("seed of", "rows", *VERDICTS, *kinds, *(f"before: {status}" for status in statuses))
    return _grid(header, ((name, *map(str, numbers)) for name, numbers in rows))


def _chapter(chapter: Chapter, stock: Stock) -> str:
    mine = [one for one in stock.standings if one.row.system == chapter.system]
    untested = [one for one in mine if not one.answers]
    answered = [one for one in mine if one.answers]
    parts = [f"## {chapter.system}"]
    if answered and untested:
        parts.append(f"Untested: {len(untested)} of {len(mine)} rows.")
    if untested:
        header = ("row", "verdict", "claim", "kind", "waits for", "tested by", "known before", "worthless without")
        parts.append(_grid(header, map(_untested, untested)))
    if answered:
        parts.append("Answered:")
        header = ("row", "verdict", "claim", "found", "why", "by", "known before", "worthless without")
        parts.append(_grid(header, map(_answered, answered)))
    return "\n\n".join(parts)


def _claim(one: Standing) -> str:
    return f"{told(one.row.claim)} ({told(one.row.section)})"


def _before(one: Standing) -> str:
    return f"*{one.row.status}*: {told(one.row.known)}"


def _untested(one: Standing) -> tuple[str, ...]:
    tested = told(one.row.tested_by)
    if one.named_by:
        tested += f"; named by {inline(words.named_by(one))}"
    row = one.row
    return row.id, "untested", _claim(one), row.kind, told(one.waits_for), tested, _before(one), told(row.control)


def _answered(one: Standing) -> tuple[str, ...]:
    first, *others = one.answers
    shown = told if first.recorded else inline
    found = shown(first.recorded.value if first.recorded else words.found(first))
    why = [shown(text) for text in (first.reason if first.recorded else "", words.needs(first)) if text]
    why += [f"also {also.status}: {told(words.found(also))} ({_by(also)})" for also in others if also.recorded]
    by = _by(first) + (f"; answers disagree: {inline(one.disagree)}" if one.disagree else "")
    verdict = f"**{one.verdict}**" + (", recorded" if first.recorded else "")
    row = one.row
    return row.id, verdict, _claim(one), found, "; ".join(why), by, _before(one), told(row.control)


def _by(answer: Answer) -> str:
    """Where it stands: the page as a link that leads there from docs/."""
    if answer.recorded is None or not answer.recorded.page:
        return inline(words.origin(answer))
    page = answer.recorded.page
    target = page.removeprefix("docs/") if page.startswith("docs/") else f"../{page}"
    return f"[{inline(page)}]({target}), {answer.time}"


def _loose(loose: Sequence[Loose]) -> str:
    if not loose:
        return ""
    rows: list[tuple[str, ...]] = []
    for one in loose:
        first = one.answers[0] if one.answers else None
        missing = f" (names {', '.join(one.unknown)}, which the ledger has not)" if one.unknown else ""
        found = words.found(first) if first else ""
        run = words.origin(first) if first else ""
        if one.disagree:
            run += f"; answers disagree: {one.disagree}"
        cells = (one.says + missing, one.source, found, run)
        rows.append((inline(f"{one.plan} ({one.claim})"), one.verdict, *map(inline, cells)))
    table = _grid(("plan and claim", "verdict", "claim", "source", "found", "run"), rows)
    return f"## Claims that name no row\n\n{table}"
