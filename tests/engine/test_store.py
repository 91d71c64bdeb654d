"""The index says what the events say, whatever happened to the index."""

import json
import os
import sqlite3
import threading
from pathlib import Path

import pytest

from bloomery.engine import store
from bloomery.engine.events import EventLog
from bloomery.errors import ArtifactError
from bloomery.measure import Interval, Items, Measurement


def write_run(root: Path, name: str, *, finished: bool = True, value: float = 3.5, status: str = "passed") -> Path:
    log = EventLog(root / name / "events.jsonl")
    log.write("run_opened", run=name, plan=name.partition("+")[0], digest="d" * 8, mode="confirmatory")
    log.write("walk_started", walk=1, patches=[])
    log.write("stage_started", stage="pretrain", attempt=1, kind="pretrain", fingerprint="f1", cells=[])
    one = Measurement(
        "text/loss", value, 7, Interval(value - 0.1, value + 0.1, 0.9), 0, "nats", items=Items("k", (1.0,), (1.0,))
    )
    place = {"stage": "pretrain", "attempt": 1, "who": "candidate", "seed": 0}
    log.write("measured", **place, measurement=Measurement("text/loss", 99.0, seed=0).to_json())
    log.write("measured", **place, measurement=one.to_json())
    log.write("measured", **place, measurement=Measurement("train/loss", float("nan"), seed=0, step=3).to_json())
    conditions = [{"status": "fail", "words": "too high", "value": value}, {"status": "pass", "words": "fine"}]
    log.write("verdict", stage="pretrain", attempt=1, status="fail", conditions=conditions)
    log.write("decision", stage="pretrain", attempt=1, action="retry", rule="plateau", because="x")
    log.write("stage_started", stage="pretrain", attempt=2, kind="pretrain", fingerprint="f2", cells=[])
    log.write("verdict", stage="pretrain", attempt=2, status="pass", conditions=[])
    log.write("decision", stage="pretrain", attempt=2, action="go_on", rule=None)
    if finished:
        log.write("run_finished", status=status, exit_code=0)
    return root / name


def test_lists_runs_with_stages_verdicts_and_measurements(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "harmonic/quickstart")
    write_run(tmp_path, "dense", finished=False)
    rows = {row.run: row for row in store.list_runs(tmp_path)}
    assert set(rows) == {"harmonic/quickstart", "dense"}
    assert (rows["dense"].status, rows["dense"].exit_code) == ("unfinished", None)
    run = rows["harmonic/quickstart"]
    assert (run.folder, run.plan, run.mode, run.status, run.exit_code) == (
        folder, "harmonic/quickstart", "confirmatory", "passed", 0,
    )  # fmt: skip
    attempts = store.stages_of(tmp_path, run.run)
    stages = [(row.attempt, row.fingerprint, row.verdict, row.action, row.rule) for row in attempts]
    assert stages == [(1, "f1", "fail", "retry", "plateau"), (2, "f2", "pass", "go_on", "")]
    verdicts = store.verdicts_of(tmp_path, run.run)
    assert [(stage, attempt, one["words"]) for stage, attempt, one in verdicts] == [
        ("pretrain", 1, "too high"),
        ("pretrain", 1, "fine"),
    ]
    found = [one for name, *_, one in store.measured(tmp_path, "text/loss") if name == run.run]
    assert found == [Measurement("text/loss", 3.5, 7, Interval(3.4, 3.6, 0.9), 0, "nats")]
    (nan,) = [one for name, *_, one in store.measured(tmp_path, "train/loss") if name == run.run]
    assert nan.value != nan.value
    assert nan.step == 3


def test_an_index_that_is_missing_damaged_or_foreign_is_built_anew(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    expected = store.list_runs(tmp_path)
    index = tmp_path / store.INDEX
    assert index.exists()
    index.unlink()
    assert store.list_runs(tmp_path) == expected
    index.write_bytes(b"this is not a database, but it is long enough to be taken for one" * 100)
    assert store.list_runs(tmp_path) == expected
    sound = index.read_bytes()
    index.write_bytes(sound[:100] + b"\xff" * (len(sound) - 100))
    assert store.list_runs(tmp_path) == expected
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / (store.INDEX + suffix)).unlink(missing_ok=True)
    foreign = sqlite3.connect(index)
    foreign.execute("CREATE TABLE runs (something TEXT)")
    foreign.execute(f"PRAGMA user_version = {store.VERSION}")
    foreign.close()
    assert store.list_runs(tmp_path) == expected
    old = sqlite3.connect(index)
    old.execute(f"PRAGMA user_version = {store.VERSION + 1}")
    old.close()
    assert store.list_runs(tmp_path) == expected


def test_follows_the_events_as_they_grow_and_go(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "a", finished=False)
    assert store.list_runs(tmp_path)[0].status == "unfinished"
    log = EventLog(folder / "events.jsonl")
    log.write("interrupted", signal="SIGINT")
    assert store.list_runs(tmp_path)[0].status == "interrupted"
    log.write("resumed")
    assert store.list_runs(tmp_path)[0].status == "unfinished"
    log.write("run_finished", status="budget", exit_code=3)
    assert (store.list_runs(tmp_path)[0].status, store.list_runs(tmp_path)[0].exit_code) == ("budget", 3)
    (folder / "events.jsonl").unlink()
    assert store.list_runs(tmp_path) == []
    assert store.measured(tmp_path, "text/loss") == []


def test_a_torn_last_line_is_ignored_and_a_damaged_run_is_listed_as_such(tmp_path: Path) -> None:
    torn = write_run(tmp_path, "torn")
    with (torn / "events.jsonl").open("a") as stream:
        stream.write('{"event": "run_fin')
    damaged = write_run(tmp_path, "damaged")
    lines = (damaged / "events.jsonl").read_text().splitlines()
    (damaged / "events.jsonl").write_text("\n".join([lines[0], "{broken", *lines[1:]]) + "\n")
    incomplete = tmp_path / "incomplete" / "events.jsonl"
    incomplete.parent.mkdir()
    incomplete.write_text(json.dumps({"event": "verdict"}) + "\n")
    rows = {row.run: row for row in store.list_runs(tmp_path)}
    assert rows["torn"].status == "passed"
    assert rows["damaged"].status == rows["incomplete"].status == "damaged"
    assert "events.jsonl:2" in rows["damaged"].note


def test_finds_a_run_by_name_ending_or_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "harmonic/quickstart")
    write_run(tmp_path, "harmonic/quickstart+0123abcd")
    write_run(tmp_path, "felix/pilot")
    write_run(tmp_path, "agp/pilot")
    assert store.find_run(tmp_path, "quickstart").run == "harmonic/quickstart"
    assert store.find_run(tmp_path, "harmonic/quickstart+0123abcd").plan == "harmonic/quickstart"
    assert store.find_run(tmp_path, str(folder)).run == "harmonic/quickstart"
    with pytest.raises(ArtifactError, match="did you mean 'harmonic/quickstart'"):
        store.find_run(tmp_path, "harmonic/quickstat")
    with pytest.raises(ArtifactError, match="agp/pilot, felix/pilot"):
        store.find_run(tmp_path, "pilot")
    with pytest.raises(ArtifactError, match="nothing has been run"):
        store.find_run(tmp_path / "absent", "pilot")


def test_what_lies_inside_a_run_or_is_hidden_is_no_run(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    write_run(tmp_path, "a/stage/1")
    write_run(tmp_path, ".data/x")
    assert [row.run for row in store.list_runs(tmp_path)] == ["a"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_root_is_indexed_in_memory(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    tmp_path.chmod(0o500)
    try:
        assert [row.run for row in store.list_runs(tmp_path)] == ["a"]
        assert not (tmp_path / store.INDEX).exists()
    finally:
        tmp_path.chmod(0o700)


def test_an_index_path_that_cannot_be_a_file_does_no_harm(tmp_path: Path) -> None:
    write_run(tmp_path, "a")
    (tmp_path / store.INDEX).mkdir()
    assert [row.run for row in store.list_runs(tmp_path)] == ["a"]


def test_many_readers_at_once(tmp_path: Path) -> None:
    for number in range(8):
        write_run(tmp_path, f"run{number}")
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(len(store.list_runs(tmp_path)))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [8] * 6
