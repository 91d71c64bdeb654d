"""Recorded verdicts of the ledger beside those of runs, in lines, JSON and on the page."""

from pathlib import Path
from typing import Any

from bloomery.report import claims_words as words
from bloomery.report.claims import Standing, Stock, take_stock
from bloomery.report.claims_page import page
from support.claimed import Runs, judged
from support.ledgers import with_recorded


def standing(stock: Stock, row: str) -> Standing:
    return next(one for one in stock.standings if one.row.id == row)


REFUTED = {
    "verdict": "refuted", "by": "docs/results/claims.md", "value": "+0.087 (+0.021 to +0.153)", "date": "2026-11-27",
    "why": "a level 2 of as many numbers is better | by `far`",
}  # fmt: skip
UNSURE = {"verdict": "undecided", "by": "the seed", "date": "2026-11-26", "why": "no unit is given"}


def test_a_recorded_verdict_stands_for_a_row_that_no_run_answers() -> None:
    known = with_recorded({"H-14": [REFUTED, UNSURE], "H-31": [UNSURE]}, {"H-31": "the unit", "H-32": "a run"})
    stock = take_stock(known)
    found = standing(stock, "H-14")
    assert (found.verdict, found.disagree) == ("refuted", "refuted in docs/results/claims.md, undecided in the seed")
    assert (
        words.found(found.answers[0]) == "+0.087 (+0.021 to +0.153): a level 2 of as many numbers is better | by `far`"
    )
    assert words.origin(found.answers[0]) == "recorded in docs/results/claims.md, 2026-11-27"
    assert words.origin(found.answers[1]) == "recorded by the seed, 2026-11-26"
    assert words.needs(standing(stock, "H-31").answers[0]) == "would need the unit"
    assert stock.counts()["harmonic"] == {"rows": 93, "untested": 91, "undecided": 1, "refuted": 1, "supported": 0}
    assert [one.row.id for one in stock.standings[-2:]] == ["H-31", "H-14"]
    assert standing(stock, "H-12").verdict == "untested", "what was known before is no verdict"


def test_a_run_goes_before_what_is_recorded(tmp_path: Path, sample_run: Any) -> None:
    runs = Runs(tmp_path, sample_run)
    runs("new", judged(rows=("H-14",)), mode="exploratory")
    found = standing(take_stock(with_recorded({"H-14": [REFUTED]}), (), runs.root), "H-14")
    assert found.verdict == "supported"
    assert [one.mode for one in found.answers] == ["exploratory", "recorded"]
    assert found.disagree == "supported in new, refuted in docs/results/claims.md"


def test_lines_and_json_say_where_it_is_recorded_and_what_is_waited_for() -> None:
    stock = take_stock(with_recorded({"H-14": [REFUTED]}, {"H-32": "a run"}))
    cells = dict(zip(words.LINE_HEADER, words.line(standing(stock, "H-14")).split("\t"), strict=True))
    assert [cells[key] for key in ("verdict", "mode", "run", "value", "why")] == [
        "refuted", "recorded", REFUTED["by"], REFUTED["value"], REFUTED["why"],
    ]  # fmt: skip
    cells = dict(zip(words.LINE_HEADER, words.line(standing(stock, "H-32")).split("\t"), strict=True))
    assert (cells["verdict"], cells["why"]) == ("untested", "a run")
    rows = {row["id"]: row for row in words.to_json(stock, stock.counts())["rows"]}
    (answer,) = rows["H-14"]["answers"]
    assert (answer["mode"], answer["value"], answer["time"]) == ("recorded", REFUTED["value"], "2026-11-27")
    assert (rows["H-32"]["waits_for"], rows["P-01"]["waits_for"]) == ("a run", "its system, which is not built yet")


def test_the_page_shows_what_is_recorded_with_a_link_and_what_is_waited_for(tmp_path: Path, sample_run: Any) -> None:
    runs = Runs(tmp_path, sample_run)
    known = with_recorded({"H-14": [REFUTED, UNSURE]}, {"H-32": "a run"})
    lines = page(known, take_stock(known)).splitlines()
    line = next(line for line in lines if line.startswith("| H-14 | **refuted**, recorded | "))
    assert r"| +0.087 (+0.021 to +0.153) | a level 2 of as many numbers is better \| by `far`; also undecided: " in line
    assert "| [docs/results/claims.md](results/claims.md), 2026-11-27; answers disagree: refuted in " in line
    assert any(line.startswith("| H-32 | untested | ") and " | a run | " in line for line in lines)
    assert "| its system, which is not built yet |" in next(line for line in lines if line.startswith("| P-01 |"))
    runs("new", judged(rows=("H-14",)))
    line = next(
        line for line in page(known, take_stock(known, (), runs.root)).splitlines() if line.startswith("| H-14 |")
    )
    assert line.startswith("| H-14 | **supported** | ")
    assert "also refuted: +0.087" in line
