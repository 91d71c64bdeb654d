"""What a person sees while a plan runs: names, trials, cycles, looks, and how long all planned cells will take."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from bloomery.cli.display import Display
from bloomery.cli.remaining import Remaining
from bloomery.plan.load import load, resolve
from support.furnace import Bench, below, stage


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a run by the engine, printed as to a pipe."""
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    bench, screen = Bench(tmp_path), io.StringIO()
    halves = [below(0.5, relative_to="stage:improve")]
    cycle = stage("go", needs={"model": "improve"}, config={"gain": 9.0}, gate=halves)
    bench.write(
        stage("base", arms={"plain": {}, "wide": {"set": {"gain": 2.0}}, "broken": {"set": {"breaks_at": 0}}},
              candidate="best", sweep={"steps": [2, 3]}, select={"lowest": "grow/loss"}, gate=[below(90)]),
        stage("tune", needs={"model": "base"}, config={"gain": 0.1, "steps": 1}, gate=[below(5)],
              on_fail=[{"name": "more", "because": "too little", "set": {"gain": 9.0}}]),
        {"id": "improve", "repeat": 2, "needs": {"model": "tune"}, "stages": [cycle]},
        hypothesis="It grows.",
        claims=[{"id": "grows", "says": "It grows.", "source": "here", "gate": [below(90, of="stage:base")]}],
    )  # fmt: skip
    plan = resolve(load(tmp_path / "plan.yaml"))
    bench.launch(observe=Display(Console(file=screen, width=200), plan=plan))
    return screen.getvalue()


def test_parties_trials_cycles_looks_and_claims_have_names(said: str) -> None:
    for words in (
        "base attempt 1: arm plain, arm wide and arm broken, seed 0; 2 values each to choose from",
        "base arm wide, trial 2 of 2, seed 0: done",
        "base arm broken, trial 1 of 2, seed 0: step 0: the loss is not a number",
        "arm wide chose steps: 3 by grow/loss (edge of the grid)",
        "arm broken found no value of its sweep",
        "base arm wide seed 0: unchanged, taken from its trial 2",
        "candidate: arm wide, best of 3 by grow/loss",
        "tune attempt 1: FAIL\n",
        "tune attempt 2: pass, 2nd look at held-out data",
        "improve-1-go (cycle 1 of 2) attempt 1",
        "improve: cycle 1 kept",
        "improve: 1 of 2 cycles kept",
        "claim grows: supported, It grows.",
    ):
        assert words in said
    assert "arm:" not in said
    assert "~" not in said


def cells(*places: tuple[str, str, int, float]) -> dict:
    return {"event": "planned", "cells": [
        {"stage": stage, "who": who, "cells": number, "seconds": size} for stage, who, number, size in places
    ]}  # fmt: skip


def event(name: str, stage: str = "a", who: str = "candidate", **facts) -> dict:
    return {"event": name, "stage": stage, "attempt": 1, "who": who, "seed": 0, **facts}


def left(*events: dict) -> float | None:
    remaining = Remaining()
    for one in events:
        remaining.take(one)
    return remaining.seconds


PLANNED = cells(("a", "candidate", 3, 2.0), ("a", "control", 1, 4.0), ("b", "candidate", 1, 1.0))


def test_time_left_is_of_all_planned_cells_at_the_speed_so_far() -> None:
    assert left(PLANNED) is None
    done = event("cell_finished", seconds=10.0)
    # 5 seconds for each of the table: two more of 2, one of 4 and one of 1.
    assert left(PLANNED, done) == pytest.approx(2 * 10 + 20 + 5)
    half = event("progress", step=5, steps=10, tokens=600, tokens_per_second=100)
    assert left(PLANNED, half) == pytest.approx(2.5 * 12 + 24 + 6)
    assert left(PLANNED, done, event("verdict"), event("stage_skipped", stage="b")) == 0


def test_a_party_is_measured_by_its_own_speed() -> None:
    slow = event("cell_finished", who="control", seconds=100.0)
    fast = event("cell_finished", seconds=2.0)
    planned = cells(("a", "candidate", 3, 2.0), ("a", "control", 2, 2.0))
    assert left(planned, slow, fast) == pytest.approx(2 * 2 + 100)


def test_a_trial_that_won_is_counted_once() -> None:
    planned = cells(("a", "candidate", 4, 1.0))  # three trials, and a second seed
    trials = [event("cell_finished", who=f"candidate~{number}", seconds=3.0) for number in range(3)]
    won = event("cell_reused", of=["a", 1, "candidate~1", 0])
    assert left(planned, *trials, won) == pytest.approx(3)
    taken = event("cell_reused", of=["a", 0, "candidate", 1])
    assert left(planned, *trials, won, taken) == 0


def test_what_failed_for_good_is_not_waited_for() -> None:
    planned = cells(("a", "arm:x", 3, 1.0), ("a", "arm:y", 2, 1.0))
    nothing = event("sweep_chosen", who="arm:x", chosen=None)
    assert left(planned, event("cell_finished", who="arm:y", seconds=4.0), nothing) == pytest.approx(4)


def test_another_attempt_runs_its_cells_again() -> None:
    planned = cells(("a", "candidate", 2, 1.0))
    done = [event("cell_finished", seconds=4.0)] * 2
    assert left(planned, *done, event("verdict")) == 0
    assert left(planned, *done, event("verdict"), event("stage_started", cells=[])) == pytest.approx(8)


def test_what_earlier_processes_spent_counts_against_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.cli.bars.PLAIN_LINE_EVERY_SECONDS", -1.0)
    monkeypatch.setattr("bloomery.cli.display.time.monotonic", lambda: 50.0)
    screen = io.StringIO()
    display = Display(Console(file=screen, width=200), wall_cap_seconds=7200)
    display.already([{"event": "spent", "seconds": 600.0}, {"event": "spent", "seconds": 90.0, "shared_seconds": 45.0}])
    place = {"stage": "base", "attempt": 1, "who": "candidate", "seed": 0}
    display({"event": "cell_started", **place})
    display({"event": "progress", "step": 1, "steps": 1, **place})
    display.close()
    assert ", budget 645/7200 s" in screen.getvalue()
