"""Cells in worker processes: the same verdicts, decisions and hashes as in turn, whatever ends first or dies."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine import wire
from bloomery.engine.cellwork import Job, Surroundings
from bloomery.engine.events import Event, EventLog
from bloomery.errors import ArtifactError, TrainingError, WorkerError
from support.furnace import Bench, Grow, GrowSettings, Ran, below, grown, loss_of, stage

CONTROL = {"twin": "dense", "set": {"gain": 3}}
BROKE = {"op": ">", "value": 0, "metric": "train/non_finite"}
SELECT = {"lowest": "grow/loss"}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path / "bench")


def both(bench: Bench, *stages: dict[str, Any], workers: int = 2, **keys: Any) -> Ran:
    """The run by workers, after comparing all that a run decides, and all it decides by, with the one in turn."""
    in_turn = Bench(bench.root / "in-turn")
    in_turn.write(*stages, **keys)
    bench.write(*stages, **keys)
    expected, found = in_turn.launch(), bench.launch(workers=workers)
    assert_same(found, expected)
    return found


def assert_same(found: Ran, expected: Ran) -> None:
    assert found.outcome == expected.outcome
    assert judged(found) == judged(expected)
    assert found.decisions() == expected.decisions()
    for name in ("sweep_chosen", "candidate_chosen"):
        assert told(found, name) == told(expected, name)
    for cell, hashes in expected.hashes().items():
        assert found.hashes().get(cell, hashes) == hashes


def judged(ran: Ran) -> list[Any]:
    return [(e["stage"], e["attempt"], e["status"], e.get("reason"), e["conditions"]) for e in ran.told("verdict")]


def told(ran: Ran, name: str) -> list[Any]:
    return [{key: value for key, value in event.items() if key != "time"} for event in ran.told(name)]


# The same as in turn


def test_seeds_arms_a_sweep_controls_and_a_baseline(bench: Bench) -> None:
    ran = both(
        bench,
        stage("base", gate=[below(99, relative_to="control"), below(999, relative_to="baseline:mean")]),
        stage(
            "tune", needs={"model": "base"}, arms={"a": {}, "b": {"set": {"steps": 4}}}, candidate="best",
            sweep={"gain": [1, 5, 2]}, select=SELECT, control={"set": {"steps": 2}},
            gate=[below(9, relative_to="arm:*"), below(9, "grow/loss", relative_to="control")],
        ),
        seeds=[0, 1], control=CONTROL, baselines={"mean": {"kind": "mean"}},
    )  # fmt: skip
    assert ran.outcome.status == "passed"
    assert ran.value("tune", who="arm:b", seed=1) == grown(5, 1, 4, start=grown(1, 1, 3))
    assert ran.furnace.grow.ran == [], "nothing was trained in this process"
    assert ran.told("run_opened")[0]["provenance"]["workers"] == 2
    assert not list(ran.folder.glob("worker-*.log")), "who has nothing to say leaves no log"


@pytest.mark.slow
def test_remedies_from_the_start_and_from_a_checkpoint(bench: Bench) -> None:
    rules = [
        {"name": "calmer", "because": "it broke", "when": [BROKE], "set": {"breaks_at": None}},
        {"name": "on", "because": "too short", "set": {"gain": 2}, "from": "checkpoint"},
    ]
    gate = [below(0.001), below(9, relative_to="control")]
    both(bench, stage("only", config={"breaks_at": 1}, gate=gate, on_fail=rules), seeds=[0, 1], control=CONTROL)


def test_what_fails_first_is_what_stands_first(bench: Bench) -> None:
    """The control breaks at once and the candidate after a while. In turn the control would not have begun, so no
    remedy may see that it broke; and when its turn comes, in the second attempt, one must."""
    rules = [
        {"name": "wrong", "because": "never", "when": [BROKE | {"of": "control"}], "set": {"gain": 7}},
        {"name": "right", "because": "it broke", "when": [BROKE], "set": {"breaks_at": None}},
    ]
    ran = both(
        bench,
        stage(
            "only", config={"breaks_at": 2, "lets_fail": "control"},
            gate=[below(9, "grow/loss", relative_to="control")],
            control={"set": {"breaks_at": 1, "lets_fail": ""}}, on_fail=rules,
        ),
    )  # fmt: skip
    failed = [event["who"] for event in ran.told("cell_failed")]
    assert failed[:2] == ["control", "candidate"], "or this test shows nothing"
    assert [event.get("rule") for event in ran.told("decision")] == ["right", "wrong", None]


@pytest.mark.slow
def test_after_a_failure_the_rest_is_stopped_and_nothing_further_begun(bench: Bench) -> None:
    bench.write(
        stage(
            "only", config={"steps": 400, "waits": 0.05}, control={"set": {"breaks_at": 1}},
            gate=[below(9, relative_to="control")], candidate="b",
            arms={"a": {"set": {"breaks_at": 1}}, "b": {"set": {"breaks_at": 2}}, "c": {}},
        ),
        seeds=[0, 1],
    )  # fmt: skip
    ran = bench.launch(workers=2)
    assert [(event["who"], event["seed"]) for event in ran.told("cell_started")] == [
        ("arm:a", 0), ("arm:b", 0), ("arm:c", 0),
    ]  # fmt: skip
    assert ran.told("cell_finished") == []
    assert ran.verdicts() == [("only", 1, "fail")]


@pytest.mark.slow
def test_a_sweep_without_any_good_value_ends_the_attempt_for_all(bench: Bench) -> None:
    rules = [{"name": "seen", "when": [BROKE], "then": "go_on", "because": "seen"}]
    both(
        bench,
        stage("only", sweep={"breaks_at": [1, 2, 0]}, select=SELECT, gate=[below(9, relative_to="control")],
              control={"set": {"gain": 4}}, on_fail=rules),
    )  # fmt: skip


@pytest.mark.slow
def test_what_is_equal_in_everything_is_run_once(bench: Bench) -> None:
    ran = both(bench, stage("only", config={"waits": 0.05}, arms={"a": {}, "b": {}, "c": {}}), workers=3)
    assert len(ran.told("cell_started")) == 1
    assert {event["who"] for event in ran.told("cell_reused")} == {"arm:b", "arm:c"}


def test_stop_if_holds_at_the_same_look(bench: Bench) -> None:
    condition = {"metric": "grow/loss", "op": "<", "value": 20}
    bench.write(stage("only", config={"steps": 8}, stop_if=[condition], gate=[below(99)]), seeds=[0, 1])
    ran = bench.launch(workers=2)
    looks = [event["measurement"]["step"] for event in ran.told("measured") if event["seed"] == 0]
    expected = next(step for step in range(1, 9) if loss_of(grown(1, 0, step)) < 20)
    assert looks == list(range(1, expected + 1))
    assert "stop_if" in ran.told("verdict")[0]["reason"]


# Stopping and going on


def test_a_signal_stops_all_after_they_saved(bench: Bench) -> None:
    in_turn = Bench(bench.root / "in-turn")
    for one in (in_turn, bench):
        one.write(stage("only", config={"steps": 150, "waits": 0.02}), seeds=[0, 1])
    seen: set[int] = set()

    def observe(event: Event) -> None:
        if event["event"] == "measured":
            seen.add(event["seed"])

    ran = bench.launch(workers=2, observe=observe, signalled=lambda: len(seen) == 2)
    assert ran.outcome.status == "interrupted"
    saved = [json.loads(file.read_text())["step"] for file in ran.folder.glob("only/1/*/checkpoint/value.json")]
    assert len(saved) == 2
    assert all(0 < step < 150 for step in saved)
    ran = bench.launch()  # the number of workers may change
    assert_same(ran, in_turn.launch())
    looks = [(e["seed"], e["measurement"]["step"]) for e in ran.told("measured") if "step" in e["measurement"]]
    assert len(looks) == len(set(looks)) == 300, "nothing was done twice, nothing left out"


@pytest.mark.slow
def test_a_budget_stops_all_and_a_raised_one_lets_them_go_on(bench: Bench) -> None:
    stages = [stage("only", config={"steps": 40, "waits": 0.02})]
    bench.write(*stages, seeds=[0, 1], budget={"wall": "200 ms"})
    ran = bench.launch(workers=2)
    assert (ran.outcome.status, ran.outcome.exit_code) == ("budget", 3)
    assert "wall" in ran.outcome.reason
    bench.write(*stages, seeds=[0, 1], budget={"wall": "10 min"})
    ran = bench.launch(workers=2)
    assert ran.outcome.status == "passed"
    assert ran.value("only", seed=1) == grown(1, 1, 40)


@pytest.mark.slow
def test_side_by_side_a_second_is_one_second_of_the_budget(bench: Bench) -> None:
    bench.write(stage("only", config={"steps": 20, "waits": 0.04}), seeds=[0, 1])
    ran = bench.launch(workers=2)
    cells = sum(event["seconds"] for event in ran.told("cell_finished"))
    assert cells > 1.6
    spent = ran.told("budget_spent")[-1]["seconds"]
    assert 0.8 < spent < 0.75 * cells
    again = bench.launch(workers=2)
    assert again.told("budget_spent")[-1]["seconds"] == pytest.approx(spent), "the events say the same"


class Killed(BaseException):
    """As SIGKILL: no handler of ours catches it."""


def kill_at(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write, left = EventLog.write, iter(range(count))

    def dying(self: EventLog, event: str, **facts: Any) -> Event:
        if next(left, None) is None:
            raise Killed
        return write(self, event, **facts)

    monkeypatch.setattr(EventLog, "write", dying)


@pytest.mark.parametrize(
    "events", [9, *(pytest.param(n, marks=pytest.mark.slow) for n in (6, 12, 17, 24, 31, 37, 44, 52, 58))]
)
def test_killed_at_any_event_it_ends_alike(bench: Bench, events: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = [{"name": "on", "because": "too short", "set": {"gain": 2}, "from": "checkpoint"}]
    gate = [below(0.001), below(9, relative_to="control")]
    stages = [
        stage("base", config={"steps": 4}),
        stage("only", needs={"model": "base"}, config={"steps": 4}, gate=gate, on_fail=rules),
    ]
    in_turn = Bench(bench.root / "in-turn")
    for one in (in_turn, bench):
        one.write(*stages, control=CONTROL, seeds=[0, 1])
    with monkeypatch.context() as patch:
        kill_at(events, patch)
        with pytest.raises(Killed):
            bench.launch(workers=2)
    ran = bench.launch(workers=3)
    assert_same(ran, in_turn.launch())
    looks = {(e["stage"], e["attempt"], e["who"], e["seed"], e["measurement"].get("step"))
             for e in ran.told("measured") if e["measurement"]["name"] == "grow/loss"}  # fmt: skip
    assert len(looks) >= 4 * (4 + 4 + 4) - 2, "the furnace saves before it looks: each worker may lose one, and no more"


# What happens to a worker


def troubled(bench: Bench, how: str) -> None:
    bench.write(
        stage(
            "only", "trouble", config={"steps": 150, "waits": 0.02},
            arms={"a": {}, "b": {"set": {"how": how, "steps": 3, "lets_save": "arm-a-seed0"}}},
        )
    )  # fmt: skip


def goes_on(bench: Bench) -> Ran:
    """From where the others saved."""
    saved = json.loads(next(bench.runs.glob("**/arm-a-seed0/checkpoint/value.json")).read_text())["step"]
    assert 0 < saved < 150
    ran = bench.launch()
    assert ran.outcome.status == "passed"
    assert ran.furnace.grow.ran[0] == ("only/1", "arm:a", 0, saved)
    return ran


def test_a_worker_that_is_killed(bench: Bench) -> None:
    troubled(bench, "killed")
    with pytest.raises(WorkerError, match="killed by SIGKILL") as caught:
        bench.launch(workers=2)
    assert caught.value.where == "only arm:b seed 0"
    assert "--workers" in caught.value.hint
    assert caught.value.exit_code == 2
    ran = goes_on(bench)
    assert ran.value("only", who="arm:b") == grown(1, 0, 3)
    assert ran.told("cell_failed") == []


def test_a_bug_is_told_and_its_traceback_is_kept(bench: Bench) -> None:
    troubled(bench, "bug")
    with pytest.raises(WorkerError, match="ZeroDivisionError: what is this") as caught:
        bench.launch(workers=2)
    log = next(bench.runs.glob("**/worker-*.log"))
    assert str(log) in caught.value.hint
    assert "Traceback" in log.read_text()
    assert "in _trouble" in log.read_text()
    goes_on(bench)


@pytest.mark.slow
def test_a_mistake_is_the_same_error_as_in_turn(bench: Bench) -> None:
    troubled(bench, "mistake")
    with pytest.raises(ArtifactError) as caught:
        bench.launch(workers=2)
    assert type(caught.value) is ArtifactError
    assert caught.value.args == ("here", "this", "that", "so")
    goes_on(bench)


@pytest.mark.slow
def test_a_full_disk_is_the_system_s_error(bench: Bench) -> None:
    troubled(bench, "disk")
    with pytest.raises(OSError, match="No space left") as caught:
        bench.launch(workers=2)
    assert caught.value.filename == "somewhere"


@pytest.mark.slow
def test_what_a_stage_prints_is_no_message(bench: Bench) -> None:
    troubled(bench, "talks")
    ran = bench.launch(workers=2)
    assert ran.outcome.status == "passed"
    logs = "".join(log.read_text() for log in ran.folder.glob("worker-*.log"))
    assert logs == '{"say":"finished"}\nnot of the protocol\n'


@pytest.mark.slow
def test_an_error_of_an_unwanted_cell_is_none(bench: Bench) -> None:
    """In turn the control would never have begun."""
    control = {"set": {"how": "bug", "steps": 2}}
    gate = [below(9, relative_to="control")]
    bench.write(stage("only", "trouble", config={"breaks_at": 0}, control=control, gate=gate))
    assert bench.launch(workers=2).verdicts() == [("only", 1, "fail")]


# One worker, spoken to by hand


@pytest.fixture
def worker(tmp_path: Path) -> "subprocess.Popen[bytes]":
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    process = subprocess.Popen(
        [sys.executable, "-m", "bloomery.engine.worker", str(os.getpid()), str(lock)], pass_fds=(lock,),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    os.close(lock)
    around = Surroundings(tmp_path, None, 0, "cpu", 1, "fp32")
    say(process, {"say": "surroundings", "around": wire.surroundings_to_json(around), "preload": []})
    assert hear(process) == {"say": "ready"}
    return process


def say(process: "subprocess.Popen[bytes]", message: wire.Message) -> None:
    assert process.stdin is not None
    process.stdin.write(wire.to_line(message))
    process.stdin.flush()


def hear(process: "subprocess.Popen[bytes]") -> wire.Message:
    assert process.stdout is not None
    while (message := wire.from_line(process.stdout.readline()))["say"] == "spend":
        pass
    return message


def end(process: "subprocess.Popen[bytes]") -> int:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    code = process.wait(10)
    process.stdout.close()
    return code


def cell(settings: GrowSettings) -> wire.Message:
    (job := Job("only", 1, "candidate", 0, "f", "dense")).folder(Path())
    return {"say": "cell", "target": f"{Grow.__module__}:Grow", "settings": settings.model_dump(mode="json"),
            "job": wire.job_to_json(job), "known": []}  # fmt: skip


def test_a_worker_saves_nothing_before_its_looks_are_written(worker: "subprocess.Popen[bytes]", tmp_path: Path) -> None:
    saved = tmp_path / "only/1/candidate-seed0/checkpoint/value.json"
    say(worker, cell(GrowSettings(steps=3)))
    for step in (1, 2, 3):
        message = hear(worker)
        assert message["measurement"]["step"] == step
        time.sleep(0.1)
        assert json.loads(saved.read_text())["step"] == step, "it waits"
        say(worker, {"say": "written"})
    assert hear(worker)["say"] == "finished"
    assert end(worker) == 0


def test_a_worker_leaves_when_its_engine_is_gone_even_in_the_middle(
    worker: "subprocess.Popen[bytes]", tmp_path: Path
) -> None:
    say(worker, cell(GrowSettings(steps=1000, waits=0.01)))
    hear(worker)
    assert end(worker) == 0
    assert json.loads((tmp_path / "only/1/candidate-seed0/checkpoint/value.json").read_text())["step"] == 1


def test_a_worker_leaves_signals_to_its_engine(worker: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        worker.send_signal(number)
    say(worker, cell(GrowSettings(steps=1)))
    assert hear(worker)["say"] == "measured"
    say(worker, {"say": "written"})
    assert hear(worker)["say"] == "finished"
    end(worker)


def test_a_worker_of_no_engine_does_nothing() -> None:
    done = subprocess.run([sys.executable, "-m", "bloomery.engine.worker", "1", "0"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


def test_errors_of_other_packages_keep_their_words() -> None:
    class Foreign(TrainingError):
        pass

    found = wire.error_from_json(json.loads(wire.to_line(wire.error_to_json(Foreign("a", "b", "c", "d")))))
    assert found.args == ("a", "b", "c", "d")
