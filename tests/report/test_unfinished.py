"""A run can end after any line: whatever is there is told, nothing else, and nothing breaks."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bloomery.report import answers, assembly, compare, showing, standing
from bloomery.report.markdown import markdown
from bloomery.report.page import page
from bloomery.report.promised import plan_of
from bloomery.report.replay import NOT_HELD_OUT
from bloomery.report.table import HEADER, closing_rows
from bloomery.report.view import RunView
from support.furnace import Bench, below, stage

SMALL = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FEW = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def furnace_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the engine itself writes of a plan with everything."""
    bench = Bench(tmp_path_factory.mktemp("furnace"))
    arms = {"plain": {}, "wide": {"set": {"gain": 2.0}}, "broken": {"set": {"breaks_at": 1}}}
    more = {"name": "more", "because": "too little gain", "set": {"gain": 3.0}}
    cycle = stage("go", needs={"model": "improve"}, config={"steps": 2, "gain": 9.0},
                  gate=[below(0.7, relative_to="stage:improve")])  # fmt: skip
    bench.write(
        stage("base", config={"steps": 4}, arms=arms, candidate="best", sweep={"steps": [2, 4, 3]},
              select={"lowest": "grow/loss"}, evaluate=["size"],
              gate=[below(1.2, relative_to="control"), below(1.01, relative_to="arm:plain")]),
        stage("tune", needs={"model": "base"}, config={"gain": 0.1, "steps": 1}, control={"set": {"gain": 0.0}},
              gate=[below(0.9, relative_to="control")], on_fail=[more]),
        stage("extra", needs={"model": "tune"}, config={"gain": 0.0}, optional=True,
              gate=[below(0.5, relative_to="stage:tune")]),
        stage("after", needs={"model": "extra", "ok": "extra.passed"}, optional=True),
        {"id": "improve", "repeat": 3, "needs": {"model": "extra"}, "stages": [cycle]},
        name="test/grammar", hypothesis="Wide grows faster.", seeds=[0, 1],
        control={"twin": "dense", "match": "stored", "set": {"gain": 0.9}}, baselines={"mean": {"kind": "mean"}},
        claims=[
            {"id": "held", "says": "Below.", "source": "here",
             "gate": [below(1, of="stage:base", relative_to="control")]},
            {"id": "lost", "says": "Half.", "source": "here",
             "gate": [below(0.5, of="stage:extra", relative_to="stage:tune")]},
            {"id": "open", "says": "After.", "source": "here", "gate": [below(1, of="stage:after")]},
            {"id": "sure", "says": "Sure.", "source": "here",
             "gate": [below(1, of="stage:base", relative_to="control", confidence=0.95)]},
        ],
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
        return bench.launch().folder


class Logs:
    """Both, kept from hypothesis, which would print them."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self.events = {
            name: (folder, [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()])
            for name, folder in folders.items()
        }

    def __getitem__(self, name: str) -> tuple[Path, list[dict]]:
        return self.events[name]


@pytest.fixture(scope="module")
def logs(furnace_run, folders) -> Logs:
    return Logs({"furnace": furnace_run, "sample": folders["grammar"]})


def until(log, share):
    """The view of the first `share` of a log, points left out of the count: most lines are points."""
    folder, events = log
    told = [place for place, event in enumerate(events, start=1) if event["event"] != "point"]
    lines = events[: told[int(share * (len(told) - 1))]]
    return lines, assembly.replay(folder, lines, plan_of(lines, folder))


@pytest.mark.slow
@SMALL
@given(which=st.sampled_from(["furnace", "sample"]), share=st.floats(0, 1))
def test_every_beginning_of_a_log_can_be_told(logs, which, share):
    lines, view = until(logs[which], share)
    assert view.status == ("passed" if lines[-1]["event"] == "run_finished" else "unfinished")
    assert all(len(row.cells()) == len(HEADER) for row in closing_rows(view))
    for grid in showing.grids(view):
        assert all(len(row) == len(grid.header) for row in grid.rows)
        assert len(grid.tones) in (0, len(grid.rows))
    assert all(standing.line(one) for one in view.stages)
    assert all(len(row) == 3 for row in compare.compare([view, view]))
    assert markdown(view).startswith("# ")


@SMALL
@given(which=st.sampled_from(["furnace", "sample"]), share=st.floats(0, 1))
def test_nothing_is_known_before_it_was_said(logs, which, share):
    lines, view = until(logs[which], share)
    answered = {event["id"]: event["status"] for event in lines if event["event"] == "claim_judged"}
    assert {one.id: one.status for one in view.claims if one.status != "untested"} == answered
    if view.plan is not None:
        assert len(view.claims) == 4
        assert answers.in_order(view)[-1].status in ("untested", "supported")
    verdicts = [event for event in lines if event["event"] == "verdict"]
    for one in view.stages:
        seen = sum(
            event["stage"] == one.id and any(
                asked.get("value") is not None and asked["metric"].split("/")[0] not in NOT_HELD_OUT
                for asked in event["conditions"]
            )
            for event in verdicts
        )  # fmt: skip
        assert len(one.looks) == seen
        for attempt in one.attempts:
            assert not any("~" in cell.who for cell in attempt.cells)
    ended = {event["stage"]: event["cycles"] for event in lines if event["event"] == "loop_ended"}
    assert {loop.id: loop.end.cycles for loop in view.loops if loop.end is not None} == ended


@pytest.mark.slow
@FEW
@given(which=st.sampled_from(["furnace", "sample"]), share=st.floats(0, 1))
def test_a_page_of_every_beginning(logs, which, share):
    _, view = until(logs[which], share)
    assert page(view).endswith("</html>\n")


@pytest.mark.parametrize("without", ["canonical", "canonical and registration", "plan"])
def test_a_log_that_does_not_bring_its_plan(furnace_run, tmp_path, without):
    """Older logs: the plan comes from the registration, from its text, or there is none."""
    folder = tmp_path / "run"
    shutil.copytree(furnace_run, folder)
    lines = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("canonical", None)
        if without == "plan":
            line.pop("plan_text", None)
    (folder / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if without == "canonical and registration":
        (folder / "registration.jsonl").unlink()
    view, whole = RunView.read(folder), RunView.read(furnace_run)
    assert (view.plan is None) is (without == "plan")
    assert [stage.id for stage in view.stages] == [stage.id for stage in whole.stages]
    assert [stage.cycle and stage.cycle.number for stage in view.stages] == [
        stage.cycle and stage.cycle.number for stage in whole.stages
    ]
    assert [(loop.id, loop.kept, loop.of) for loop in view.loops] == [
        (loop.id, loop.kept, loop.of) for loop in whole.loops
    ]
    assert markdown(view)


def test_the_engines_own_run(furnace_run):
    view = RunView.read(furnace_run)
    base, tune, extra, *_ = view.stages
    assert base.last.candidate == "arm:wide"
    assert [sweep.chosen and sweep.chosen["steps"] for sweep in base.last.sweeps] == [4, 4, None, 4]
    assert [look.after for look in tune.looks] == [(), ("rule more",)]
    assert extra.last.final("size/loss", "candidate"), "a suite judges the same artifact once, whoever asks"
    assert {one.id: one.status for one in view.claims} == {
        "held": "supported", "lost": "refuted", "open": "undecided", "sure": "undecided",
    }  # fmt: skip
