"""Arms, sweeps, looks, controls, cycles and claims, as a reader of the events would find them by hand."""

import json
import re

import pytest

from bloomery.report import answers, arms, compare, controls, curves, cycles, finals, looks, passage, standing, sweeps
from bloomery.report.facts import Choice, Sweep
from bloomery.report.markdown import markdown
from bloomery.report.spending import by_party
from bloomery.report.summary import predictions, summary
from bloomery.report.table import closing_rows
from bloomery.report.wording import NOTHING


@pytest.fixture(scope="module")
def view(views):
    return views["grammar"]


@pytest.fixture(scope="module")
def events(folders):
    return [json.loads(line) for line in (folders["grammar"] / "events.jsonl").read_text().splitlines()]


def stage(view, name):
    return next(one for one in view.stages if one.id == name)


def by_name(grid):
    return {row[0]: dict(zip(grid.header, row, strict=True)) for row in grid.rows}


def test_every_arm_has_a_row_and_the_candidate_is_the_engines(view, events):
    pretrain = stage(view, "pretrain")
    rows = by_name(arms.arm_grid(view, pretrain, pretrain.last))
    assert list(rows) == ["arm random", "arm corpus", "arm spectral", "arm unscaled", "control"]
    chosen = [event["candidate"] for event in events if event["event"] == "candidate_chosen"][-1]
    assert [name for name, row in rows.items() if row["outcome"] == "candidate"] == [chosen.replace(":", " ")]
    means = {}
    for event in events:
        measured = event.get("measurement", {})
        if event.get("attempt") == 2 and event.get("stage") == "pretrain" and measured.get("name") == "text/loss":
            means.setdefault(event["who"].replace(":", " "), []).append(measured["value"])
    for name in ("arm random", "arm corpus", "arm spectral", "control"):
        assert rows[name]["text/loss"].startswith(f"{sum(means[name]) / 2:.4f} (")
    assert rows["arm unscaled"]["text/loss"] == NOTHING


def test_the_best_of_several_is_said_to_be_flattered(view):
    pretrain = stage(view, "pretrain")
    remarks = " ".join(arms.arm_grid(view, pretrain, pretrain.last).remarks)
    assert "best of the 3 of 4 arms that ended by val/loss" in remarks
    assert "best of 3 is flattered" in remarks
    assert "Arm unscaled did not get to the end" in remarks
    assert "the loss is not a number" in remarks


def test_a_candidate_that_the_plan_names_is_not_called_the_best(view):
    from dataclasses import replace

    pretrain = stage(view, "pretrain")
    named = replace(pretrain.last, best=None)
    remarks = " ".join(arms.arm_grid(view, pretrain, named).remarks)
    assert "the plan named beforehand" in remarks
    assert "flattered" not in remarks


def test_each_party_is_marked_at_its_own_best_value(view, events):
    grid = sweeps.sweep_grid(view, stage(view, "pretrain"), stage(view, "pretrain").last)
    told = {event["who"]: event for event in events if event["event"] == "sweep_chosen" and event["attempt"] == 2}
    for column, name in enumerate(grid.header[1:], start=1):
        event = told[name.replace("arm ", "arm:")]
        marked = [row[0] for row in grid.rows if row[column].endswith("✓")]
        known = [value for value in event["values"] if value is not None]
        best = [str(event["trials"][event["values"].index(min(known))]["optimizer.lr"])] if known else []
        assert marked == best
    edges = [remark for remark in grid.remarks if remark.startswith("Edge of the grid")]
    assert len(edges) == 2
    assert "arm corpus chose optimizer.lr = 0.08, the largest tried" in edges[0]
    assert "control chose optimizer.lr = 0.005, the smallest tried" in edges[1]


@pytest.mark.parametrize(
    ("values", "chosen", "edge"),
    [
        ([0.1, 0.2, 0.3], 0.2, False),
        ([0.1, 0.2, 0.3], 0.3, True),
        ([0.2, 0.1, 0.3], 0.2, False),  # first of its list, and still between others
        (["100k tok", "1M tok"], "1M tok", True),
        (["10k tok", "1M tok", "100k tok"], "100k tok", False),
        (["cosine", "wsd"], "cosine", False),
        ([True, False], True, False),
        ([5], 5, False),
    ],
)
def test_the_edge_of_the_grid(values, chosen, edge):
    trials = tuple({"lr": value} for value in values)
    sweep = Sweep("candidate", 0, trials, {"lr": chosen}, Choice("val/loss", "lower", (), None))
    assert bool(sweeps.edges(sweep)) is edge


def test_trials_are_spent_and_stand_nowhere_as_parties(view, events):
    grid = by_party(view)
    tokens = sum(event["tokens"] for event in events if event["event"] == "spent")
    assert sum(amounts["tokens"] for amounts in view.spent_by.values()) == pytest.approx(tokens)
    failed = sum(event["event"] == "cell_failed" and "~" in event["who"] for event in events)
    assert [row[1] for row in grid.rows if "unscaled" in row[1]] == [f"arm unscaled: {failed} trials of its sweep"]
    shares = [int(row[-1].split()[0]) for row in grid.rows]
    assert sum(shares) == pytest.approx(100, abs=len(shares) / 2)
    pretrain = stage(view, "pretrain").last
    assert not any("~" in who for who in pretrain.whos())
    assert not any("~" in one.who for one in pretrain.measurements)
    assert len(pretrain.trials) == 15
    compared = {row[0] for row in compare.compare([view])}
    assert not any("trial" in name for name in compared)


def test_a_winning_trial_brings_its_curve_to_its_party(view):
    pretrain = stage(view, "pretrain").last
    trial = next(cell for cell in pretrain.trials if cell.who == "arm:corpus~2")
    cell = next(cell for cell in pretrain.cells if (cell.who, cell.seed) == ("arm:corpus", 0))
    assert cell.state == "reused"
    assert cell.points == trial.points
    assert set(curves.curve(pretrain, "arm:corpus").seeds) == {0, 1}


def test_looks_are_counted_from_the_verdicts(view, events):
    for one in view.stages:
        verdicts = [event for event in events if event["event"] == "verdict" and event["stage"] == one.id]
        assert len(one.looks) == len(verdicts)
    pretrain = stage(view, "pretrain")
    assert looks.look_words(pretrain, pretrain.attempts[0]) == "1st look"
    assert looks.look_words(pretrain, pretrain.attempts[1]) == "2nd look, after rule longer"
    assert looks.look_words(stage(view, "tune"), stage(view, "tune").last) == ""
    assert "for the gate of pretrain 2 times" in summary(view)
    rows = [row for row in closing_rows(view) if row.stage == "pretrain" and row.attempt == "2 of 2"]
    assert rows
    assert all("2nd look, after rule longer" in row.verdict for row in rows)


def test_an_attempt_that_measured_nothing_held_out_is_no_look(views):
    from bloomery.report.parsing import verdict
    from bloomery.report.replay import looks_at_held_out

    train = {"condition": {"metric": "train/loss", "op": "<", "value": 1}, "metric": "train/loss", "value": 2.0}
    text = {"condition": {"metric": "text/loss", "op": "<", "value": 1}, "metric": "text/loss"}
    assert not looks_at_held_out(verdict({"status": "fail", "conditions": [train, text]}))
    assert looks_at_held_out(verdict({"status": "fail", "conditions": [{**text, "value": 2.0}]}))


def test_the_stages_own_control_is_told_from_the_twin(view):
    twin = controls.control_words(view, stage(view, "pretrain"), stage(view, "pretrain").last)
    own = controls.control_words(view, stage(view, "tune"), stage(view, "tune").last)
    assert twin.startswith("The dense twin, solved for equal stored parameters")
    assert "Its own control: this same stage with objective.curriculum: none" in own
    assert controls.control_words(view, stage(view, "compress"), stage(view, "compress").last) == ""


def test_cycles_are_kept_or_undone_with_the_reason(view):
    (loop,) = view.loops
    assert cycles.kept_words(loop) == "2 of 3 cycles"
    rows = cycles.cycle_grid(loop).rows
    assert [row[2] for row in rows] == ["kept", "kept", "undone"]
    assert "consolidate did not pass" in rows[2][3]
    assert "The loop sleep kept 2 of 3 cycles." in summary(view)


def test_what_was_left_behind_and_what_was_handed_on(view):
    assert [(row[0], row[2]) for row in passage.not_promoted_grid(view).rows] == [("compress", "model from tune")]
    assert [(row[0], row[1]) for row in passage.skipped_grid(view).rows] == [("pack", "compress did not pass")]


def test_claims_refuted_first_with_all_that_weighs_them(view):
    assert [one.status for one in answers.in_order(view)] == ["refuted", "refuted", "undecided", "supported"]
    grid = answers.claim_grid(view)
    row = by_name(grid)["curriculum"]
    assert row["value"] == "\N{MINUS SIGN}0.0120"
    assert row["n"] == "412"
    assert "about 1,030 items" in row["what it would need"]
    assert by_name(grid)["beats-twin"]["ledger"] == "H-01, H-02"
    text = markdown(view)
    assert text.index("beats-twin") < text.index("curriculum") < text.index("| corpus-start")


def test_what_fails_without_ending_anything_comes_after_what_matters(view):
    failed = [one for one in predictions(view) if one.condition.status == "fail"]
    assert [one.stage.id for one in failed] == ["compress", "sleep-3-consolidate"]
    assert "both belong to optional stages or cycles" in summary(view)


def test_compare_has_arms_sweeps_looks_cycles_and_claims(view, views):
    _, *rows = compare.compare([view, views["passing"]])
    facts = {row[0]: row[1:] for row in rows}
    assert facts["pretrain: candidate"] == ("arm corpus, best of 4", NOTHING)
    assert facts["pretrain: arms that failed"] == ("arm unscaled", NOTHING)
    assert facts["pretrain: swept by arm corpus"] == ("optimizer.lr: 0.08 (edge of the grid)", NOTHING)
    assert facts["pretrain: looks at held-out data"] == ("2", "1")
    assert facts["sleep: cycles kept"] == ("2 of 3 cycles", NOTHING)
    assert facts["claim beats-twin"] == ("refuted", NOTHING)
    assert facts["pretrain: text/loss, candidate / control"][0].startswith("0.9831 (0.9740")


def test_where_each_stage_stands(view):
    lines = {one.id: standing.line(one) for one in view.stages}
    assert lines["pretrain"] == "pass; arm corpus, best of 4 by val/loss; 2nd look, after rule longer"
    assert lines["compress"] == "fail; not promoted"
    assert lines["pack"] == "skipped: compress did not pass"
    assert lines["sleep-3-consolidate"] == "fail; its cycle is undone"


def test_a_final_value_is_the_mean_with_the_hull_of_intervals(view):
    found = finals.final(stage(view, "tune").last, "text/loss", "candidate")
    assert (found.mean, found.by) == (pytest.approx(3.571), "interval")
    assert (found.low, found.high) == (pytest.approx(3.568 - 0.055), pytest.approx(3.574 + 0.055))


@pytest.mark.slow
def test_the_page_shows_it_all(view):
    from bloomery.report.page import page

    text = re.sub(r"<svg.*?</svg>", "", page(view), flags=re.DOTALL)
    for words in (
        "Arms, sweeps and controls", "Edge of the grid", "2nd look, after rule longer", "cycle 3 of sleep, undone",
        "ledger row H-12", "trial 3 of its sweep", "best of 4 by val/loss", "model from tune",
    ):  # fmt: skip
        assert words in text
