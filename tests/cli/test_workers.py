"""`bloomery run --workers`: real training in several processes, compared by hash with training in one."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.events import read_events
from support.command import Command, Said, finished, process, tiny_plan

LONG: dict[str, Any] = {"seeds": [0, 1], "stages.0.config.tokens": "20k tok"}


def events(folder: Path) -> list[dict[str, Any]]:
    return read_events(folder / "runs/test/tiny/events.jsonl")


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in events(folder) if event["event"] == name]


def results(folder: Path) -> tuple[Any, ...]:
    """What two runs of the same plan must agree on: weights, optimisers, and all that was judged."""
    hashes = {(e["who"], e["seed"]): e["hashes"] for e in told(folder, "cell_finished")}
    assert len(hashes) == 6, "two seeds of candidate, control and bigram"
    return hashes, [(event["status"], event["conditions"]) for event in told(folder, "verdict")]


def points(folder: Path) -> int:
    return len(told(folder, "point")) if (folder / "runs/test/tiny/events.jsonl").exists() else 0


def until(reached: Callable[[], bool], running: Any) -> None:
    while not reached():
        assert running.poll() is None, finished(running)
        time.sleep(0.01)


def workers_of(running: Any) -> list[int]:
    """The processes that it has started."""
    return [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]


def alive(pids: list[int]) -> list[int]:
    """Without those that only wait to be asked for their exit code."""
    stats = [Path(f"/proc/{pid}/stat") for pid in pids]
    return [int(stat.parent.name) for stat in stats if stat.exists() and ") Z " not in stat.read_text()]


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    folder = tmp_path_factory.mktemp("in-turn")
    tiny_plan(folder, **LONG)
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], folder))
    assert said.code == 0, said
    assert told(folder, "run_opened")[0]["provenance"]["workers"] == 1
    return results(folder)


def run(folder: Path, *words: str) -> Said:
    return finished(process(["run", "tiny.yaml", *words], folder))


@pytest.mark.slow
def test_two_workers_give_what_one_process_does(tmp_path: Path, in_turn: tuple[Any, ...]) -> None:
    tiny_plan(tmp_path, **LONG)
    said = run(tmp_path, "--threads", "2", "--workers", "2")
    assert said.code == 0, said
    assert "2 workers of 1 threads" in said.out
    assert said.err == ""
    assert results(tmp_path) == in_turn
    provenance = told(tmp_path, "run_opened")[0]["provenance"]
    assert (provenance["threads"], provenance["workers"]) == (1, 2)
    started = [event["event"] for event in events(tmp_path) if event["event"] in ("cell_started", "cell_finished")]
    assert started[:2] == ["cell_started"] * 2, "side by side"


@pytest.mark.slow
def test_killed_with_workers_and_started_again_at_once_with_others(tmp_path: Path, in_turn: tuple[Any, ...]) -> None:
    tiny_plan(tmp_path, **LONG)
    for number, (workers, after) in enumerate([("2", 20), ("3", 90), ("2", 160)]):
        running = process(["run", "tiny.yaml", "--threads", workers, "--workers", workers], tmp_path)
        until(lambda after=after: points(tmp_path) > after, running)
        children = workers_of(running)
        assert len(children) == int(workers), number
        running.kill()
        running.wait()
        deadline = time.monotonic() + 5
        while alive(children) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not alive(children), "its workers die with it"
        finished(running)
    said = run(tmp_path, "--threads", "4", "--workers", "1")
    assert said.code == 0, said
    assert results(tmp_path) == in_turn


@pytest.mark.slow
def test_ctrl_c_reaches_every_process_and_all_of_them_save(tmp_path: Path, in_turn: tuple[Any, ...]) -> None:
    tiny_plan(tmp_path, **LONG)
    running = process(["run", "tiny.yaml", "--threads", "2", "--workers", "2"], tmp_path, start_new_session=True)

    def both_train() -> bool:
        return points(tmp_path) > 0 and len({(e["who"], e["seed"]) for e in told(tmp_path, "point")}) == 2

    until(both_train, running)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    said = finished(running)
    assert said.code == 130, said
    assert "To go on: bloomery run tiny.yaml --workers 2" in said.out
    assert said.err == ""
    begun = {(event["who"], event["seed"]) for event in told(tmp_path, "cell_started")}
    done = {(event["who"], event["seed"]) for event in told(tmp_path, "cell_finished")}
    cells = tmp_path / "runs/test/tiny/pretrain/1"
    assert all(list((cells / f"{who}-seed{seed}/checkpoint").glob("step-*")) for who, seed in begun - done)
    assert len(begun - done) == 2
    steps = len({(e["who"], e["seed"], e["step"]) for e in told(tmp_path, "point")})
    assert steps == points(tmp_path)
    said = run(tmp_path, "--threads", "2", "--workers", "2")
    assert said.code == 0, said
    assert results(tmp_path) == in_turn


@pytest.mark.slow
def test_a_worker_killed_by_the_system_is_one_clear_error(tmp_path: Path, in_turn: tuple[Any, ...]) -> None:
    tiny_plan(tmp_path, **LONG)
    running = process(["run", "tiny.yaml", "--threads", "2", "--workers", "2"], tmp_path)
    until(lambda: points(tmp_path) > 20, running)
    os.kill(workers_of(running)[0], signal.SIGKILL)
    said = finished(running)
    assert said.code == 2, said
    assert "killed by SIGKILL" in said.err
    assert "Traceback" not in said.err
    assert run(tmp_path, "--workers", "2").code == 0
    assert results(tmp_path) == in_turn


@pytest.mark.slow
def test_values_that_are_not_finite_in_a_worker_are_a_finding(tmp_path: Path) -> None:
    changes = {"stages.0.config.optimizer": {"lr": 1e30, "clip": None}, "stages.0.config.tokens": "2k tok"}
    verdicts: list[Any] = []
    for words in (["--threads", "1"], ["--threads", "2", "--workers", "2"]):
        folder = tmp_path / str(len(words))
        folder.mkdir()
        tiny_plan(folder, seeds=[0, 1], **changes)
        said = run(folder, *words)
        assert said.code == 1, said
        verdicts.append([(e["status"], e["reason"], e["conditions"]) for e in told(folder, "verdict")])
    assert "finite" in verdicts[0][0][1]
    assert verdicts[0] == verdicts[1]


def test_more_workers_than_a_machine_has_threads_for_are_refused(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path)
    for wanted in ("0", "100000"):
        said = bloomery("run", "tiny.yaml", "--workers", wanted)
        assert said.code == 2
        assert "--workers" in said.err
    assert not (tmp_path / "runs").exists()
