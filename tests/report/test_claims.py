"""The ledger over runs: who answers a row, in which order, and what the lines, the JSON and the page say of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bloomery.errors import BloomeryError
from bloomery.measure import Interval
from bloomery.plan.schema import Plan
from bloomery.report import claims_words as words
from bloomery.report.claims import VERDICTS, Standing, Stock, check_filters, take_stock
from bloomery.report.claims_page import page, told
from bloomery.report.wording import MINUS
from support.claimed import Runs, judged, verdict
from support.ledgers import bare

LEDGER = bare()


@pytest.fixture
def runs(tmp_path: Path, sample_run: Any) -> Runs:
    return Runs(tmp_path, sample_run)


def stock_of(runs: Runs, *plans: Plan) -> Stock:
    return take_stock(LEDGER, plans, runs.root)


def standing(stock: Stock, row: str) -> Standing:
    return next(one for one in stock.standings if one.row.id == row)


def test_without_runs_everything_is_untested(tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "nowhere"):
        stock = take_stock(LEDGER, (), root)
        assert [one.row.id for one in stock.standings] == [row.id for row in LEDGER.rows]
        assert {one.verdict for one in stock.standings} == {"untested"}
        assert stock.counts()["agp"] == {"rows": 45, "untested": 45, "undecided": 0, "refuted": 0, "supported": 0}
        assert (stock.runs, stock.loose, stock.damaged) == (0, (), ())


def test_a_run_answers_its_rows_with_all_that_is_needed_to_weigh_it(runs: Runs) -> None:
    runs("harmonic/bases", judged(rows=("H-12", "H-27"), status="refuted", reason="the gate failed"))
    stock = stock_of(runs)
    (answer,) = standing(stock, "H-12").answers
    assert answer == standing(stock, "H-27").answers[0]
    assert (answer.run, answer.mode, answer.commit, answer.changed) == (
        "harmonic/bases", "confirmatory", "ec24291f0c", False,
    )  # fmt: skip
    one = answer.deciding
    assert one is not None
    assert (one.value, one.n, one.interval) == (-0.25, 412, Interval(-0.375, -0.125, 0.95))
    said = words.found(answer)
    assert f"{MINUS}0.2500" in said
    assert "n = 412" in said
    assert f"{MINUS}0.3750 to {MINUS}0.1250" in said
    assert "3.5000 against 3.7500" in said
    assert said.endswith("the gate failed")
    assert stock.counts()["harmonic"] == {"rows": 93, "untested": 91, "undecided": 0, "refuted": 2, "supported": 0}


def test_untested_rows_come_first_then_undecided_refuted_and_supported_ones(runs: Runs) -> None:
    claims = [judged("a", ("H-01",)), judged("b", ("A-02",), "refuted"), judged("c", ("P-03",), "undecided")]
    runs("one", *claims, judged("d", ("O-04",), "undecided"))
    order = [(one.verdict, one.row.id) for one in stock_of(runs).standings]
    assert [verdict for verdict, _ in order] == sorted((one for one, _ in order), key=VERDICTS.index)
    assert order[0] == ("untested", "H-02")
    assert order[-4:] == [("undecided", "P-03"), ("undecided", "O-04"), ("refuted", "A-02"), ("supported", "H-01")]


def test_the_latest_confirmatory_run_stands_for_a_row(runs: Runs) -> None:
    runs("old", judged(status="refuted"), day=0)
    runs("new", judged(status="undecided"), day=2)
    runs("middle", judged(status="supported"), day=1)
    runs("look", judged(status="supported"), mode="exploratory", day=9)
    found = standing(stock_of(runs), "H-12")
    assert [one.run for one in found.answers] == ["new", "middle", "old", "look"]
    assert found.verdict == "undecided"
    assert found.disagree == "undecided in new, supported in middle and look, refuted in old"


def test_runs_that_agree_are_not_said_to_disagree(runs: Runs) -> None:
    runs("one", judged(), day=0)
    runs("two", judged(), day=1)
    found = standing(stock_of(runs), "H-12")
    assert len(found.answers) == 2
    assert found.disagree == ""


def test_of_several_claims_of_one_run_the_worst_stands_for_the_row(runs: Runs) -> None:
    claims = [judged("good"), judged("bad", status="refuted"), judged("open", status="undecided")]
    runs("one", *claims)
    found = standing(stock_of(runs), "H-12")
    assert [one.claim for one in found.answers] == ["bad", "open", "good"]
    assert found.disagree == "refuted in one, undecided in one, supported in one"


def test_the_last_word_on_a_claim_counts(runs: Runs) -> None:
    runs("one", judged(status="refuted"), judged("other", ("H-13",)), judged(status="supported"))
    assert standing(stock_of(runs), "H-12").verdict == "supported"
    assert len(standing(stock_of(runs), "H-12").answers) == 1


def test_the_worst_condition_is_shown_first_and_the_rest_is_counted(runs: Runs) -> None:
    runs("one", judged(status="refuted", verdict=verdict("fail", 0.3, extra=2)))
    (answer,) = standing(stock_of(runs), "H-12").answers
    assert answer.deciding is not None
    assert (answer.deciding.status, answer.deciding.value) == ("fail", 0.3)
    assert "the first of 3 conditions" in words.found(answer)


def test_a_member_of_an_any_that_need_not_pass_does_not_stand_for_a_supported_claim(runs: Runs) -> None:
    either = verdict("pass", -0.5)
    either["conditions"].insert(0, {**verdict("fail", 0.75)["conditions"][0], "alternative": 0})
    runs("one", judged(verdict=either))
    (answer,) = standing(stock_of(runs), "H-12").answers
    assert answer.deciding is not None
    assert (answer.deciding.status, answer.deciding.value) == ("pass", -0.5)
    assert [one.status for one in answer.conditions] == ["pass", "fail"]


def test_an_undecided_row_says_what_it_would_need(runs: Runs) -> None:
    runs("one", judged(status="undecided", would_need="about 340 items", valid=verdict("fail")))
    (answer,) = standing(stock_of(runs), "H-12").answers
    assert words.needs(answer) == "would need about 340 items"
    assert answer.valid == "fail"
    assert len(answer.valid_conditions) == 1


def test_a_claim_without_evidence_is_still_an_answer(runs: Runs) -> None:
    runs("one", judged(status="undecided", verdict={"status": "missing", "conditions": []}, reason="never measured"))
    (answer,) = standing(stock_of(runs), "H-12").answers
    assert words.found(answer) == "never measured"
    assert words.line(standing(stock_of(runs), "H-12")).split("\t")[1] == "undecided"


def test_a_status_that_nobody_knows_decides_nothing(runs: Runs) -> None:
    runs("one", {**judged(), "status": "proven"})
    assert standing(stock_of(runs), "H-12").verdict == "undecided"


def test_a_damaged_run_is_named_and_the_others_are_read(runs: Runs) -> None:
    runs("broken", judged())
    runs("odd", {**judged(), "verdict": {"status": "pass", "conditions": [{"value": "many"}]}})
    runs("whole", judged("b", ("H-13",)))
    log = runs.root / "broken" / "events.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], "{", *lines[1:], ""]))
    stock = stock_of(runs)
    assert {run for run, _ in stock.damaged} == {"broken", "odd"}
    assert all(reason for _, reason in stock.damaged)
    assert standing(stock, "H-13").verdict == "supported"
    assert standing(stock, "H-12").verdict == "untested"
    assert "broken" in page(LEDGER, stock)


def plan(*claims: tuple[str, list[str]], name: str = "harmonic/bases") -> Plan:
    gate = [{"metric": "text/loss", "of": "stage:one", "op": "<", "value": 1}]
    return Plan.model_validate(
        {"bloomery": 1, "name": name, "system": "harmonic", "stages": [{"id": "one", "kind": "pretrain"}],
         "claims": [{"id": id, "says": f"it says {id}", "source": "t", "rows": rows, "gate": gate}
                    for id, rows in claims]}
    )  # fmt: skip


def test_bundled_plans_are_named_beside_the_rows_that_they_will_answer(runs: Runs) -> None:
    stock = stock_of(runs, plan(("sine", ["H-12"]), ("monarch", ["H-12", "H-13"])))
    assert words.named_by(standing(stock, "H-12")) == "harmonic/bases (sine), harmonic/bases (monarch)"
    assert words.named_by(standing(stock, "H-14")) == ""
    assert standing(stock, "H-12").verdict == "untested"
    assert stock.loose == ()


def test_claims_that_name_no_row_have_a_list_of_their_own(runs: Runs) -> None:
    runs("harmonic/bases", judged("free", ()), judged("gone", ("Z-99",), "refuted"))
    runs("mine/first", judged("own", ()))
    stock = stock_of(runs, plan(("free", []), ("waiting", []), ("kept", ["H-12"])))
    assert [(one.plan, one.claim, one.verdict, one.unknown) for one in stock.loose] == [
        ("harmonic/bases", "waiting", "untested", ()),
        ("harmonic/bases", "gone", "refuted", ("Z-99",)),
        ("harmonic/bases", "free", "supported", ()),
        ("mine/first", "own", "supported", ()),
    ]
    text = page(LEDGER, stock)
    assert "## Claims that name no row" in text
    assert "which the ledger has not" in text
    assert [one.claim for one in stock.only("mine", None).loose] == ["own"]


def test_filters_keep_what_they_say(runs: Runs) -> None:
    runs("one", judged("a", ("H-12",), "refuted"), judged("b", ("A-01",), "refuted"), judged("c", ("A-02",)))
    stock = stock_of(runs)
    assert [one.row.id for one in stock.only("agp", "refuted").standings] == ["A-01"]
    assert [one.row.id for one in stock.only(None, "refuted").standings] == ["H-12", "A-01"]
    assert len(stock.only("agp", None).standings) == 45
    assert list(stock.only("agp", None).counts()) == ["agp"]


@pytest.mark.parametrize(
    ("system", "verdict", "said"),
    [("harmonc", None, "did you mean 'harmonic'?"), (None, "untestd", "did you mean 'untested'?"), ("dense", None, "")],
)
def test_a_filter_that_there_is_not(system: str | None, verdict: str | None, said: str) -> None:
    with pytest.raises(BloomeryError) as caught:
        check_filters(LEDGER, system, verdict)
    assert said in str(caught.value)
    assert "one of: " in str(caught.value)


def test_lines_have_the_columns_of_their_header(runs: Runs) -> None:
    runs("harmonic/bases", judged(status="refuted"), judged("free", ()))
    stock = stock_of(runs, plan(("first", ["H-12"])))
    lines = [words.line(one) for one in stock.standings] + [words.loose_line(one) for one in stock.loose]
    assert {line.count("\t") for line in lines} == {len(words.LINE_HEADER) - 1}
    cells = dict(zip(words.LINE_HEADER, words.line(standing(stock, "H-12")).split("\t"), strict=True))
    assert {key: cells[key] for key in ("id", "verdict", "system", "kind", "before", "mode", "run", "commit", "n")} == {
        "id": "H-12", "verdict": "refuted", "system": "harmonic", "kind": "small", "before": "refuted",
        "mode": "confirmatory", "run": "harmonic/bases", "commit": "ec24291f0c", "n": "412",
    }  # fmt: skip
    assert cells["value"] == f"{MINUS}0.2500"
    assert cells["interval"] == f"{MINUS}0.3750 … {MINUS}0.1250 (95 %)"
    assert cells["named by"] == "harmonic/bases (first)"
    assert cells["worthless without"] == LEDGER.by_id()["H-12"].control


def test_json_holds_everything(runs: Runs) -> None:
    runs("one", judged(status="undecided", would_need="about 340 items", verdict=verdict("inconclusive", 0.1, extra=1)))
    stock = stock_of(runs)
    found = json.loads(json.dumps(words.to_json(stock, stock.counts()), allow_nan=False))
    assert len(found["rows"]) == 309
    last = found["rows"][-1]
    assert last["id"] == "H-12"
    assert set(LEDGER.rows[0].model_dump()) <= set(last)
    (answer,) = last["answers"]
    assert (answer["value"], answer["n"], answer["would_need"]) == (0.1, 412, "about 340 items")
    assert answer["interval"] == pytest.approx([-0.025, 0.225, 0.95])
    assert len(answer["conditions"]) == 2
    assert answer["commit"] == "ec24291f0c"
    assert found["rows"][0]["answers"] == []
    assert found["counts"]["harmonic"]["undecided"] == 1


# The page


def test_the_page_holds_every_row_once_and_is_the_same_each_time(runs: Runs) -> None:
    text = page(LEDGER, take_stock(LEDGER))
    assert text == page(LEDGER, take_stock(LEDGER, (), runs.root))
    for row in LEDGER.rows:
        assert text.count(f"\n| {row.id} | ") == 1
    assert text.index("| H-01 |") < text.index("| P-01 |") < text.index("| O-48 |")
    assert "| all | 309 | 309 | 0 | 0 | 0 | 86 | 181 | 22 | 20 | 48 | 55 | 42 | 164 |" in text
    widths = {line.replace(r"\|", "").count("|") for line in text.splitlines() if line.startswith("| H-")}
    assert widths == {9}


def test_the_page_shows_answers_after_what_is_untested(runs: Runs) -> None:
    runs("harmonic/bases", judged("a", ("H-01",), "refuted"))
    runs("again", judged("b", ("H-01",), "supported"), mode="exploratory")
    text = page(LEDGER, stock_of(runs))
    line = next(line for line in text.splitlines() if line.startswith("| H-01 |"))
    for said in ("**refuted**", f"{MINUS}0.2500", "n = 412", "run harmonic/bases, confirmatory, commit ec24291f0c",
                 "answers disagree: refuted in harmonic/bases, supported in again"):  # fmt: skip
        assert said in line
    assert text.index("| H-93 |") < text.index("| H-01 |") < text.index("| P-01 |")
    assert "Untested: 92 of 93 rows." in text
    assert text == page(LEDGER, stock_of(runs))


def test_what_a_stranger_wrote_stays_text(runs: Runs) -> None:
    evil = "<script>alert(1)</script> | [x](http://example.org) `*b*`"
    runs("one", judged(reason=evil), {**judged(evil, ()), "says": evil, "source": evil}, plan=evil, mode=evil)
    text = page(LEDGER, stock_of(runs))
    assert "<script>" not in text
    assert re.findall(r"(?<!\\)\]\(http", text) == []
    assert re.findall(r"(?<!\\)`\*b", text) == []
    for line in text.splitlines():
        if line.startswith("| H-12"):
            assert line.replace(r"\|", "").count("|") == 9


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`a_b` and c_d", r"`a_b` and c\_d"),
        ("1 < 2 & 3", "1 &lt; 2 &amp; 3"),
        ("as *untested*, first", "as *untested*, first"),
        ("2*3*4", r"2\*3\*4"),
        ("a|b `c|d`", r"a\|b `c\|d`"),
        ("#1", r"\#1"),
    ],
)
def test_the_ledgers_own_text_keeps_its_code(text: str, shown: str) -> None:
    assert told(text) == shown
