import pytest

from bloomery.report.compare import compare
from bloomery.report.table import HEADER, closing_rows, next_command
from bloomery.report.wording import MINUS, NOTHING


def test_rows_have_a_cell_for_every_column(views):
    for view in views.values():
        for row in closing_rows(view):
            assert len(row.cells()) == len(HEADER)


def test_closing_table_says_what_was_judged(views):
    control, bigram = closing_rows(views["passing"])
    assert control.cells() == (
        "pretrain",
        "1",
        f"text/loss {MINUS} control ≤ 0",
        f"{MINUS}0.0250",
        f"{MINUS}0.0520 … +0.0020 (95 %)",
        "3.7400 (control)",
        "passed, not worse",
    )
    assert bigram.verdict == "passed, better"


def test_every_attempt_and_every_stage_has_a_row(views):
    rows = closing_rows(views["failing"])
    assert {row.attempt for row in rows if row.stage == "pretrain"} == {"1 of 2", "2 of 2"}
    assert [row.verdict for row in rows if row.stage == "l3"] == ["not run: l2 did not pass"]
    assert {row.status for row in rows if row.verdict == "not measured"} == {"missing"}
    last = closing_rows(views["failing"], earlier_attempts=False)
    assert {row.attempt for row in last if row.stage == "pretrain"} == {"2 of 2"}


@pytest.mark.parametrize(
    ("kind", "begins"),
    [
        ("passing", "bloomery generate "),
        ("failing", "bloomery register quickstart --amend "),
        ("interrupted", "bloomery run quickstart"),
        ("unfinished", "bloomery run tiny.yaml --set 'stages.pretrain.config.tokens=100k tok'"),
    ],
)
def test_next_command(views, kind, begins):
    assert str(next_command(views[kind])).startswith(begins)


def test_compare_has_a_column_for_every_run(views):
    header, *rows = compare([views["passing"], views["failing"], views["unfinished"]])
    assert all(len(row) == 4 for row in rows)
    facts = {row[0]: row[1:] for row in rows}
    assert header[1] == "harmonic/quickstart"
    assert facts["status"] == ("passed", "failed", "not finished")
    assert facts["pretrain: text/loss"] == ("3.7150 ± 0.002", "3.7650 ± 0.002", NOTHING)
    assert facts["predictions held"] == ("2 of 2", "1 of 4", "0 of 0")
