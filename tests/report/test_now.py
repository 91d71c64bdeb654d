"""What a person is told to do now, for a run in every state."""

import os
import shutil
import socket

import pytest

from bloomery.engine.artifact import write_atomically
from bloomery.engine.events import EventLog
from bloomery.report.now import improver_folder, improver_of, what_now
from bloomery.report.view import RunView


@pytest.mark.parametrize(
    ("kind", "begins", "because"),
    [
        ("passing", "bloomery generate ", "or bloomery serve, eval, export"),
        ("failing", "bloomery register quickstart --amend ", "report.html"),
        ("interrupted", "bloomery run quickstart", "goes on"),
        ("unfinished", "bloomery run tiny.yaml", "goes on"),
    ],
)
def test_one_command_and_why(views, kind, begins, because):
    now = what_now(views[kind], improver_of(views[kind]))
    assert now.command.startswith(begins)
    assert because in now.why


def test_a_failed_run_names_its_gate_and_its_rules(views):
    lines = what_now(views["failing"], None).why.splitlines()
    assert any(line.startswith("pretrain: text/loss") and " found " in line and "rule" in line for line in lines), lines


def test_a_run_that_is_at_work_is_waited_for(folders, tmp_path):
    folder = shutil.copytree(folders["unfinished"], tmp_path / "run")
    (folder / "lock").write_text(f"pid {os.getpid()} on {socket.gethostname()}\n")
    assert what_now(RunView.read(folder), None).command.startswith("bloomery status ")
    (folder / "lock").write_text("")
    assert what_now(RunView.read(folder), None).command.startswith("bloomery run ")


def test_an_improver_is_running_paused_ended_or_killed(folders, tmp_path):
    view = RunView.read(shutil.copytree(folders["passing"], tmp_path / "run"))
    assert improver_of(view) is None
    folder = improver_folder(view)
    log = EventLog(folder / "improve.jsonl")
    log.write("started", run="run")
    log.write("cycle_judged", cycle=1, verdict="promoted", why="every gate passed")
    write_atomically(folder / "promoted.json", b'{"cycle": 1, "holds": {"model": {"path": "1/model", "digest": "d"}}}')
    (folder / "lock").write_text(f"pid {os.getpid()} on {socket.gethostname()}\n")
    state = improver_of(view)
    assert state.lines() == [
        "improver: running, cycle 2; 1 of 1 cycle promoted", "  cycle 1: promoted; every gate passed",
    ]  # fmt: skip
    assert what_now(view, state).command == f"bloomery serve {folder / '1/model'}"
    log.write("paused", cycle=2, why="the load of others is 9.0, above 2")
    assert improver_of(view).lines()[0].startswith("improver: paused, the load of others is 9.0, above 2")
    (folder / "lock").write_text("")
    assert improver_of(view).state == "killed"
    log.write("ended", code=0, why="one cycle has ended")
    assert improver_of(view).to_json()["cycles"] == [{"cycle": 1, "verdict": "promoted", "why": "every gate passed"}]
    assert improver_of(view).state == "ended"
