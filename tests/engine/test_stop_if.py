"""`stop_if`: judged on the looks of one cell, and the same after an interruption."""

from pathlib import Path
from typing import Any

import pytest

from support.furnace import Bench, below, grown, loss_of, stage

STEPS = 8


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def stops(value: float, metric: str = "grow/loss", **keys: Any) -> dict[str, Any]:
    return {"metric": metric, "op": "<", "value": value, **keys}


def looks(ran: Any, who: str = "candidate") -> list[int]:
    return [
        event["measurement"]["step"]
        for event in ran.told("measured")
        if event["who"] == who and event["measurement"]["name"] == "grow/loss"
    ]


def first_below(value: float, gain: float = 1, after: float = 0) -> int:
    return next(step for step in range(1, STEPS + 1) if loss_of(grown(gain, 0, step)) < value and step / STEPS >= after)


def test_the_first_look_that_holds_ends_the_attempt_as_failed(bench: Bench) -> None:
    bench.write(stage("only", config={"steps": STEPS}, stop_if=[stops(20)], gate=[below(99)]))
    ran = bench.launch()
    assert looks(ran) == list(range(1, first_below(20) + 1))
    assert first_below(20) < STEPS
    assert ran.verdicts() == [("only", 1, "fail")]
    assert "stop_if" in ran.told("verdict")[0]["reason"]
    assert ran.outcome.exit_code == 1


def test_after_is_a_share_of_the_stage(bench: Bench) -> None:
    bench.write(stage("only", config={"steps": STEPS}, stop_if=[stops(20, after="75%")], gate=[below(99)]))
    assert looks(bench.launch())[-1] == first_below(20, after=0.75) == 6


def test_what_never_holds_stops_nothing(bench: Bench) -> None:
    bench.write(stage("only", config={"steps": STEPS}, stop_if=[stops(0.1), stops(1, "grow/other")], gate=[below(99)]))
    ran = bench.launch()
    assert looks(ran) == list(range(1, STEPS + 1))
    assert ran.outcome.status == "passed"


def test_the_last_look_counts_too(bench: Bench) -> None:
    end = loss_of(grown(1, 0, STEPS))
    bench.write(stage("only", config={"steps": STEPS}, stop_if=[stops(end * 1.0001)], gate=[below(99)]))
    assert bench.launch().verdicts() == [("only", 1, "fail")]


def test_extremes_are_those_of_the_looks_so_far(bench: Bench) -> None:
    bench.write(stage("only", config={"steps": STEPS}, stop_if=[stops(20, "grow/loss/min")], gate=[below(99)]))
    assert looks(bench.launch())[-1] == first_below(20)


def test_a_remedy_may_answer(bench: Bench) -> None:
    rule = {"name": "slower", "set": {"gain": 0.01}, "because": "it fell too fast"}
    bench.write(stage("only", config={"steps": STEPS}, stop_if=[stops(20)], gate=[below(99)], on_fail=[rule]))
    assert bench.launch().verdicts() == [("only", 1, "fail"), ("only", 2, "pass")]


def test_a_trial_that_is_stopped_cannot_win(bench: Bench) -> None:
    bench.write(
        stage("only", config={"steps": STEPS}, sweep={"gain": [0.1, 1]}, select={"lowest": "grow/loss"},
              stop_if=[stops(20)])
    )  # fmt: skip
    ran = bench.launch()
    assert ran.told("sweep_chosen")[0]["chosen"] == {"gain": 0.1}
    assert ran.outcome.status == "passed"


def test_only_those_it_speaks_of_are_stopped(bench: Bench) -> None:
    arms = {"a": {}, "b": {}}
    bench.write(stage("only", config={"steps": STEPS}, arms=arms, stop_if=[stops(20, of="arm:b")], gate=[below(99)]))
    ran = bench.launch()
    assert looks(ran, "arm:a")[-1] == STEPS
    assert looks(ran, "arm:b")[-1] == first_below(20)
    assert ran.outcome.status == "passed", "a rival that stopped is missing where it is compared, and no more"


def test_killed_at_any_step_it_stops_at_the_same(bench: Bench) -> None:
    expected = first_below(20)
    for polls in range(1, 2 * STEPS):
        again = Bench(bench.root / str(polls))
        again.write(stage("only", config={"steps": STEPS}, stop_if=[stops(20)], gate=[below(99)]))
        left = [polls]

        def signalled(left: list[int] = left) -> bool:
            left[0] -= 1
            return left[0] <= 0

        ran = again.launch(signalled=signalled)
        if ran.outcome.status == "interrupted":
            ran = again.launch()
        assert max(looks(ran)) == expected
        assert ran.verdicts() == [("only", 1, "fail")]
    assert [name for name, *_ in again.launch().furnace.grow.ran] == [], "what was stopped is not tried again"
