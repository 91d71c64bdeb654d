"""The ledger holds every row that it was made from, refuses to lose one, and `check` knows its rows."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from bloomery.errors import PlanError, Problems
from bloomery.plan import ledger as module
from bloomery.plan.check import Report, check
from bloomery.plan.ledger import FOLDER, ledger, read_ledger
from bloomery.plan.load import load_text
from bloomery.plan.schema import Plan

sys.path.insert(0, str(Path(__file__).parent))
from broken import GOOD  # pyright: ignore[reportMissingImports]
from fake_catalogue import FakeCatalogue  # pyright: ignore[reportMissingImports]

# Rows; arithmetic, small, large, external; supported, refuted, contradicts, open: the table the ledger came
# with, and O-48, which was found later.
COUNTS = {
    "harmonic": ("H", 93, 27, 52, 13, 1, 11, 6, 21, 55),
    "perspective": ("P", 72, 32, 33, 3, 4, 15, 14, 13, 30),
    "felix": ("F", 51, 17, 24, 5, 5, 10, 14, 3, 24),
    "agp": ("A", 45, 2, 36, 0, 7, 7, 0, 1, 37),
    "holographic": ("O", 48, 8, 36, 1, 3, 5, 21, 4, 18),
}
KINDS = ("arithmetic", "small", "large", "external")
STATUSES = ("supported", "refuted", "contradicts", "open")
CROSSED = {
    "arithmetic": (25, 16, 34, 11),
    "small": (21, 36, 5, 119),
    "large": (0, 2, 2, 18),
    "external": (2, 1, 1, 16),
}


def test_the_rows_are_as_many_as_the_table_says() -> None:
    rows = ledger().rows
    assert len(rows) == len({row.id for row in rows}) == 309
    assert tuple(ledger().legend.systems) == tuple(COUNTS)
    for system, (letter, total, *amounts) in COUNTS.items():
        mine = [row for row in rows if row.system == system]
        assert [row.id for row in mine] == [f"{letter}-{number:02}" for number in range(1, total + 1)]
        counted = Counter(row.kind for row in mine) + Counter(row.status for row in mine)
        assert [counted[name] for name in (*KINDS, *STATUSES)] == amounts, system
    for kind, amounts in CROSSED.items():
        counted = Counter(row.status for row in rows if row.kind == kind)
        assert tuple(counted[status] for status in STATUSES) == amounts, kind


def test_rows_say_what_they_said() -> None:
    rows = ledger().by_id()
    found = rows["P-31"]
    assert found.model_dump() == {
        "id": "P-31",
        "system": "perspective",
        "section": "5.1",
        "claim": "largest magnitudes first",
        "kind": "small",
        "tested_by": "stage 4 ablation",
        "known": "largest +3.72, random +4.37, smallest +5.26 %: right order if one stages at all [M]",
        "status": "supported",
        "control": "random and smallest-first order",
        "recorded": (),
        "waits_for": "",
    }
    assert rows["H-12"].known.startswith("literal wide rows 2.218 at 10x, worse than low-rank 2.120; narrow")
    assert rows["P-41"].claim == "MDS to 3-D places experts in [0,1)^3"
    assert rows["O-01"].control == ""
    assert all(row.claim and row.tested_by and row.known and row.section for row in rows.values())
    assert sum(not row.control for row in rows.values()) == 16


def test_everything_that_a_row_uses_is_explained_and_nothing_lies_around() -> None:
    legend = ledger().legend
    assert set(legend.kinds) == set(KINDS)
    assert set(legend.statuses) == set(STATUSES)
    assert set(legend.marks) == set("MRDBC")
    assert {file.stem for file in FOLDER.iterdir()} == {*legend.systems, "legend"}


SMALL = """\
system: holographic
counts: {rows: 2, kinds: {small: 1, large: 1}, statuses: {open: 2}}
rows:
  - {id: O-01, section: a, claim: b, kind: small, tested_by: c, known: d, status: open, control: e}
  - {id: O-02, section: a, claim: b, kind: large, tested_by: c, known: d, status: open, control: ''}
"""


def folder_with(tmp_path: Path, text: str) -> Path:
    legend = (FOLDER / "legend.yaml").read_text(encoding="utf-8")
    one = legend.replace("systems: [harmonic, perspective, felix, agp, holographic]", "systems: [holographic]")
    assert one != legend
    (tmp_path / "legend.yaml").write_text(one, encoding="utf-8")
    (tmp_path / "holographic.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_ledger_of_two_rows(tmp_path: Path) -> None:
    small = read_ledger(folder_with(tmp_path, SMALL))
    assert [(row.id, row.system, row.kind) for row in small.rows] == [
        ("O-01", "holographic", "small"),
        ("O-02", "holographic", "large"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  - {id: O-02, section: a, claim: b, kind: large", "  - {id: O-03, section: a, claim: b, kind: large", "gap"),
        ("id: O-02", "id: O-01", "gap"),
        ("id: O-02", "id: H-02", "gap"),
        ("rows: 2", "rows: 3", "2 rows, but the counts say 3"),
        ("large: 1}", "large: 2}", "1 rows are large, but the counts say 2"),
        ("kinds: {small: 1, large: 1}", "kinds: {small: 2}", "rows are"),
        ("statuses: {open: 2}", "statuses: {open: 1}", "2 rows are open"),
        ("kind: large", "kind: huge", "huge"),
        ("status: open, control: e", "status: proven, control: e", "proven"),
        ("known: d, status: open, control: ''", "status: open, control: ''", "'known' is missing"),
        ("system: holographic", "system: felix", "ledger of felix"),
    ],
)
def test_what_does_not_add_up_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert SMALL.count(old) == 1
    with pytest.raises(PlanError, match=said) as caught:
        read_ledger(folder_with(tmp_path, SMALL.replace(old, new)))
    assert "holographic.yaml" in str(caught.value)


def test_a_row_taken_out_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="1 rows, but the counts say 2"):
        read_ledger(folder_with(tmp_path, "\n".join(SMALL.splitlines()[:-1])))
    with pytest.raises((PlanError, Problems)):
        read_ledger(folder_with(tmp_path, SMALL.replace("section: a, claim: b, kind: large", "section: a, claim: b")))


# What a plan may name


def checked(rows: str, system: str = "harmonic") -> Report:
    claims = f"""\
claims:
  - id: first
    says: it is no worse
    source: the design
    rows: {rows}
    gate: [{{metric: text/loss, of: "stage:pretrain", relative_to: control, op: "<=", value: 1}}]
"""
    text = GOOD.replace("system: harmonic", f"system: {system}") + claims
    return check(load_text(text, Path("plan.yaml")), FakeCatalogue())


def test_rows_of_the_plans_own_system_are_welcome() -> None:
    report = checked("[H-12, H-93]")
    assert report.problems == report.warnings == ()


@pytest.mark.parametrize(
    ("row", "hint"),
    [
        ("H-7", "did you mean 'H-07'?"),
        ("h-12", "did you mean 'H-12'?"),
        ("P31", "did you mean 'P-31'?"),
        ("H-094", "the rows of harmonic are H-01 to H-93"),
        ("O-49", "the rows of holographic are O-01 to O-48"),
        ("nothing-like-it", "bloomery claims"),
    ],
)
def test_a_row_that_there_is_not_is_refused_with_the_nearest(row: str, hint: str) -> None:
    (problem,) = checked(f"[H-12, {row}]").problems
    assert str(problem).startswith("plan.yaml:40:18: claims.0.rows.1: the claims ledger has no row")
    assert row in problem.found
    assert problem.hint == hint


def test_the_same_row_twice_is_refused() -> None:
    (problem,) = checked("[H-12, H-12]").problems
    assert "H-12 a second time" in problem.found


def test_a_row_of_another_system_is_a_warning() -> None:
    report = checked("[H-12, P-31]")
    assert report.problems == ()
    (warning,) = report.warnings
    assert "P-31 is a row of perspective, and this is a plan of harmonic" in warning.what
    assert [note.what[:4] for note in checked("[H-12]", system="dense").warnings] == ["H-12"]


def test_a_plan_that_names_no_row_does_not_read_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ledger", lambda: pytest.fail("read"))
    assert checked("[]").problems == ()


# Rows that nobody answers for


def plan_naming(system: str, rows: list[str]) -> Plan:
    condition = {"metric": "text/loss", "of": "stage:one", "op": "<", "value": 1}
    claim = {"id": "some", "says": "s", "source": "t", "rows": rows, "gate": [condition]}
    return Plan.model_validate(
        {"bloomery": 1, "name": f"{system}/some", "system": system, "stages": [{"id": "one", "kind": "x"}],
         "claims": [claim]}
    )  # fmt: skip


def test_rows_without_a_plan_are_found() -> None:
    every = [f"O-{number:02}" for number in range(1, 49)]
    plans = [plan_naming("holographic", rows) for rows in (every[:20], every[22:])]
    left = ledger().unnamed("holographic", plans)
    assert [row.id for row in left] == ["O-21", "O-22"]
    assert ledger().unnamed("holographic", [plan_naming("holographic", every)]) == ()
    assert len(ledger().unnamed("holographic", [plan_naming("felix", every)])) == 48, "a plan of another system"
    assert ledger().unnamed("dense", []) == ()
