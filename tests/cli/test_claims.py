"""`bloomery claims`: lines in a pipe, tables in a terminal, JSON, and a page."""

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console

from bloomery.cli import claims as verb
from bloomery.plan.ledger import ledger
from bloomery.report.claims import VERDICTS
from support.command import Command
from support.ledgers import bare

SYSTEMS = ("harmonic", "perspective", "felix", "agp", "holographic")


@pytest.fixture
def nothing_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    known = bare()
    monkeypatch.setattr("bloomery.plan.ledger.ledger", lambda: known)


def run_with_claims(root: Path) -> None:
    """A run that has refuted one row, left one undecided, and answered a claim of no row."""
    condition = {
        "condition": {"metric": "text/loss", "of": "stage:pretrain", "relative_to": "control", "op": "<=", "value": 1},
        "status": "fail", "metric": "text/loss", "of": "stage:pretrain", "relative_to": "control", "value": 1.0625,
        "interval": [1.03125, 1.09375, 0.95], "n": 22, "seeds": [0, 1], "candidate": 4.25, "reference": 4.0,
    }  # fmt: skip
    unsure = {**condition, "status": "inconclusive"}
    claims = [
        {"id": "sine", "rows": ["H-12"], "status": "refuted", "verdict": {"status": "fail", "conditions": [condition]}},
        {"id": "k0", "rows": ["H-19"], "status": "undecided", "would_need": "about 340 items",
         "verdict": {"status": "inconclusive", "conditions": [unsure]}},
        {"id": "free", "rows": [], "status": "supported", "verdict": {"status": "pass", "conditions": []}},
    ]  # fmt: skip
    opened = {
        "event": "run_opened", "time": "2026-11-21T09:00:00.000+00:00", "plan": "harmonic/mine", "digest": "ab" * 32,
        "run": "harmonic/mine", "mode": "confirmatory", "provenance": {"commit": "ec24291f0c", "dirty": True},
    }  # fmt: skip
    more = {"event": "claim_judged", "time": "2026-11-21T10:00:00.000+00:00", "source": "s", "of": "stage:pretrain"}
    events = [opened, *({**more, "says": f"it says {one['id']}", "reason": "", **one} for one in claims)]
    folder = root / "harmonic" / "mine"
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


@pytest.mark.usefixtures("nothing_recorded")
def test_in_a_pipe_every_row_is_a_line_and_untested_ones_come_first(bloomery: Command, tmp_path: Path) -> None:
    run_with_claims(tmp_path / "runs")
    said = bloomery("claims")
    assert said.code == 0
    counts, table = said.out.split("\n\n")
    assert [line.split(":")[0] for line in counts.splitlines()] == list(SYSTEMS)
    assert "harmonic: 93 rows, 91 untested, 1 undecided, 1 refuted, 0 supported" in counts
    header, *lines = [line.split("\t") for line in table.splitlines()]
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["verdict"] for row in rows[:307]] == ["untested"] * 307
    assert [(row["id"], row["verdict"]) for row in rows[307:309]] == [("H-19", "undecided"), ("H-12", "refuted")]
    loose = rows[309:]  # claims that name no row: this run's, and those of bundled plans that no run has answered
    assert all(row["id"] == "" for row in loose)
    assert [row["verdict"] for row in loose].count("supported") == 1
    last = rows[308]
    assert (last["value"], last["n"], last["run"]) == ("1.0625", "22", "harmonic/mine")
    assert (last["mode"], last["commit"]) == ("confirmatory", "ec24291f0c with changes")
    assert "1.0312" in last["interval"]


@pytest.mark.usefixtures("nothing_recorded")
def test_filters(bloomery: Command, tmp_path: Path) -> None:
    run_with_claims(tmp_path / "runs")
    said = bloomery("claims", "--system", "harmonic", "--status", "refuted").out
    assert said.splitlines()[0] == "harmonic: 93 rows, 91 untested, 1 undecided, 1 refuted, 0 supported"
    assert re.findall(r"^\w-\d+", said, re.MULTILINE) == ["H-12"]
    found = bloomery("claims", "--status", "undecided", "--json").json
    assert [row["id"] for row in found["rows"]] == ["H-19"]
    assert found["rows"][0]["answers"][0]["would_need"] == "about 340 items"
    assert found["without_a_row"] == []
    assert found["counts"]["felix"]["rows"] == 51
    for arguments, hint in ((["--system", "felx"], "felix"), (["--status", "refutd"], "refuted")):
        wrong = bloomery("claims", *arguments)
        assert wrong.code == 2
        assert f"did you mean '{hint}'?" in wrong.err


def test_what_is_recorded_is_told_with_its_page_and_counted(bloomery: Command) -> None:
    said = bloomery("claims", "--system", "harmonic", "--status", "refuted").out
    line = next(line for line in said.splitlines() if line.startswith("H-13\t")).split("\t")
    assert (line[1], *line[5:7], line[8]) == (
        "refuted", "recorded", "docs/results/claims.md", "+0.518 (+0.270 to +0.766)",
    )  # fmt: skip
    counted = {name: int(amount) for amount, name in re.findall(r"(\d+) (\w+)", said.splitlines()[0])}
    assert counted["rows"] == sum(counted[verdict] for verdict in VERDICTS) == 93
    assert counted["refuted"] == len(re.findall(r"^H-\d+\trefuted", said, re.MULTILINE)) > 0
    waiting = [
        line.split("\t") for line in bloomery("claims", "--status", "untested").out.split("\n\n")[1].splitlines()
    ]
    assert all(cells[-1] for cells in waiting if cells[0]), "an untested row says what it waits for"


@pytest.mark.slow
def test_the_page_is_written_and_nothing_else_is_printed(bloomery: Command, tmp_path: Path) -> None:
    said = bloomery("claims", "--write", "claims.md", "--system", "agp")
    assert said.out.strip() == "claims.md"
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^\| \w-\d+ \|", page, re.MULTILINE)) == 309
    assert "from no runs" in page
    run_with_claims(tmp_path / "runs")
    bloomery("claims", "--write", "claims.md")
    page = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert "Written from 1 run." in page
    assert "**refuted**" in page
    assert bloomery("claims", "--write", "no/such/folder.md").code == 2
    assert bloomery("claims", "--write", ".").code == 2


@pytest.mark.usefixtures("nothing_recorded")
@pytest.mark.parametrize("width", [72, 120])
def test_in_a_terminal_the_tables_fit_and_cut_no_text(
    bloomery: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    run_with_claims(tmp_path / "runs")
    shown = io.StringIO()
    screen = Console(file=shown, width=width, force_terminal=True, color_system=None, legacy_windows=False)
    monkeypatch.setattr(verb, "console", lambda: screen)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert bloomery("claims").code == 0
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in shown.getvalue().splitlines()]
    assert max(map(len, lines[:-3])) <= width
    assert "…" not in "".join(lines[:-3])
    text = "\n".join(lines)
    assert text.index("│ holographic ") < text.index("│ H-01 ")
    places = [text.index(f"\n│ {row} ") for row in ("H-01", "O-48", "H-19", "H-12")]
    assert places == sorted(places)
    cells = ["".join(column).split() for column in columns(lines, "H-12")]
    row = ledger().by_id()["H-12"]
    assert "".join(cells[2]) == "".join(row.claim.split())
    assert "".join(cells[4]) == "".join(row.control.split())
    for said in ("1.0625", "n=22", "harmonic/mine,confirmatory,commitec24291f0c"):
        assert said in "".join(cells[3])


def columns(lines: list[str], row: str) -> list[list[str]]:
    """The cells of one row of a ruled table, each a list of its lines."""
    start = next(place for place, line in enumerate(lines) if line.startswith(f"│ {row} "))
    end = next(place for place in range(start, len(lines)) if lines[place][0] in "├└")
    return [list(cell) for cell in zip(*(line.strip("│").split("│") for line in lines[start:end]), strict=True)]
