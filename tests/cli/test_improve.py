"""`bloomery improve` as its user sees it: real cycles in real processes, killed, limited, stopped, and its mistakes."""

import configparser
import json
import os
import plistlib
import random
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bloomery.cli import improving, services
from bloomery.cli.improving import Limits, busy, limits
from bloomery.engine.artifact import SEAL, digest_of, unseal
from bloomery.engine.events import read_events
from bloomery.errors import PlanError
from support.command import Command, Said, finished, process, tiny_plan

RUN = "test/tiny"
SHARED: dict[str, Any] = {
    "batch": 4, "context": 32, "precision": "fp32", "optimizer": {"lr": 0.05}, "checkpoint_every": "0 s",
    "validation": {"split": "val", "every": "20%", "documents": 2},
}  # fmt: skip
NEVER = ("--load", "100000", "--nice", "0")
"""The machine that runs this, and what else it does, has no say in it."""


def looped(folder: Path, **gate: Any) -> Path:
    better = {"metric": "text/loss", "relative_to": "stage:better", "op": "<", "value": 1.0, **gate}
    model = {"layers": 1, "width": 16, "heads": 2}
    return tiny_plan(
        folder, baselines={}, control=None, stages=[
            {"id": "base", "kind": "pretrain", "config": {**SHARED, "model": model, "tokens": 1280}},
            {"id": "better", "repeat": 1, "needs": {"model": "base"}, "stages": [
                {"id": "more", "kind": "finetune", "needs": {"model": "better"}, "gate": [better],
                 "config": {**SHARED, "data": "corpus", "tokens": 2560}}]},
        ],
    )  # fmt: skip


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plan with a loop, and its run."""
    folder = tmp_path_factory.mktemp("ended")
    looped(folder)
    said = finished(process(["run", "tiny.yaml", "--threads", "1", "--device", "cpu"], folder))
    assert said.code == 0, said
    return folder


@pytest.fixture
def here(ended: Path, tmp_path: Path) -> Path:
    shutil.copytree(ended, tmp_path / "here")
    return tmp_path / "here"


def begin(folder: Path, *words: str) -> subprocess.Popen[str]:
    return process(["improve", RUN, "--device", "cpu", *NEVER, *words], folder)


def improve(folder: Path, *words: str) -> Said:
    return finished(begin(folder, *words))


def until(reached: Callable[[], bool], running: subprocess.Popen[str]) -> bool:
    """Whether it was reached before the process had ended."""
    while not reached():
        if running.poll() is not None:
            return False
        time.sleep(0.01)
    return True


def record(folder: Path) -> Path:
    return folder / "runs/test/tiny-improve"


def told(folder: Path) -> list[Path]:
    """Its own record, and that of each of two cycles."""
    return [record(folder) / "improve.jsonl", *(record(folder) / f"{cycle}/events.jsonl" for cycle in (1, 2))]


def lines(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in told(folder) if file.exists())


def judged(folder: Path) -> list[tuple[int, str, str]]:
    events = read_events(told(folder)[0])
    return [(event["cycle"], event["verdict"], event["why"]) for event in events if event["event"] == "cycle_judged"]


def measured(folder: Path) -> set[str]:
    """All that two cycles have measured but what it cost: a kill costs what is done again."""
    found = [event for file in told(folder)[1:] for event in read_events(file) if event["event"] == "measured"]
    cost = ("cost/", "train/tokens_per_second", "train/model_flop_utilisation")
    values = [{key: value for key, value in event.items() if key != "time"} for event in found]
    return {json.dumps(one, sort_keys=True) for one in values if not one["measurement"]["name"].startswith(cost)}


def weights(folder: Path) -> list[dict[str, str]]:
    """The hashes that each of two cycles ended with."""
    ended = [[event for event in read_events(file) if event["event"] == "cell_finished"] for file in told(folder)[1:]]
    return [events[-1]["hashes"] for events in ended]


@pytest.mark.slow
def test_killed_at_random_and_started_again_nothing_is_lost_or_half_written(ended: Path, tmp_path: Path) -> None:
    """With SIGKILL, at three moments anywhere in two cycles. It ends as one that nobody disturbed."""
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    for folder in (calm, rough):
        shutil.copytree(ended, folder)
    assert improve(calm, "--cycles", "2").code == 0
    moments = sorted(random.Random().sample(range(1, lines(calm)), 3))
    killed = 0
    for moment in moments:
        if len(judged(rough)) == 2:
            break  # what is done again after a kill is told again, so that later moments may lie beyond the end
        running = begin(rough, "--cycles", str(2 - len(judged(rough))))
        killed += until(lambda moment=moment: lines(rough) >= moment, running)
        running.kill()  # its child goes with it, and holds the lock until it is gone
        running.communicate()
    assert killed, moments
    if (left := 2 - len(judged(rough))) > 0:
        said = improve(rough, "--cycles", str(left))
        assert said.code == 0, (moments, said)
    assert judged(rough) == judged(calm), moments
    assert measured(rough) == measured(calm), moments
    assert weights(rough) == weights(calm), moments
    assert (record(rough) / "promoted.json").read_text() == (record(calm) / "promoted.json").read_text(), moments
    held = json.loads((record(rough) / "promoted.json").read_text())["holds"]["model"]
    assert digest_of(record(rough) / held["path"]) == held["digest"]
    for file in told(rough):
        assert all(json.loads(line) for line in file.read_text().splitlines()), (moments, file)
    sealed = [seal.parent for seal in record(rough).rglob(SEAL)]
    assert len(sealed) == len(list(record(calm).rglob(SEAL))) >= 2, moments
    for folder in sealed:
        unseal(folder, verify=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc and prlimit")
def test_a_cycle_is_nice_and_limited_and_saves_when_told_to_stop(here: Path) -> None:
    running = begin(here, "--nice", "7", "--memory", "3 GiB", "--threads", "1")
    children: list[int] = []

    def limited() -> bool:
        children[:] = [int(pid) for pid in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()]
        try:
            return any(resource.prlimit(pid, resource.RLIMIT_DATA)[0] == 3 * 2**30 for pid in children)
        except ProcessLookupError:
            return False

    assert until(limited, running), finished(running)
    (child,) = children
    assert os.getpriority(os.PRIO_PROCESS, child) == 7
    assert b"OMP_NUM_THREADS=1" in Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
    assert os.getpriority(os.PRIO_PROCESS, running.pid) == os.getpriority(os.PRIO_PROCESS, 0)
    state = finished(process(["status", RUN, "--json"], here)).json["improver"]
    assert (state["state"], state["why"]) == ("running", "cycle 1")
    running.terminate()
    said = finished(running)
    assert said.code == 143, said
    assert not Path(f"/proc/{child}").exists()
    (record(here) / "stop").touch()
    said = improve(here)
    assert (said.code, "remove it to go on" in said.out) == (0, True), said


@pytest.mark.slow
def test_a_cycle_that_needs_more_memory_than_it_may_take_is_rolled_back(here: Path, bloomery: Command) -> None:
    said = improve(here, "--memory", "200 MiB", "--cycles", "5")
    assert said.code == 3, said
    assert "needs more than --memory" in said.err
    assert "Traceback" not in said.err
    said = bloomery("status", here / "runs/test/tiny")
    assert "cycle 1: rolled back; it needed more memory" in said.out
    assert "next: bloomery generate" in said.out


@pytest.mark.slow
def test_what_now_of_a_run_with_a_loop_and_the_service_that_improves_it(
    here: Path, bloomery: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    assert "next: bloomery improve test/tiny\n" in bloomery("status", RUN).out
    said = bloomery("improve", RUN, "--service", "--memory", "2 GiB", "--threads", "1", "--load", "3")
    assert said.code == 0
    assert not record(here).exists(), "it installs and begins nothing"
    unit, plist = said.out.split("# ~/Library")
    agent = plistlib.loads(plist[plist.index("<?xml") :].encode())
    parsed = configparser.RawConfigParser()
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(unit)
    service = parsed["Service"]
    words = shlex.split(service["ExecStart"])
    assert words == agent["ProgramArguments"]
    asked = words[words.index("improve") :]
    assert asked[:4] == ["improve", RUN, "--runs", str(here / "runs")]
    assert asked[asked.index("--memory") + 1] == str(2 * 2**30)
    assert (service["Nice"], agent["Nice"]) == ("10", 10)
    assert service["RestartPreventExitStatus"].split() == ["2", "3"]
    assert (agent["KeepAlive"], agent["WorkingDirectory"]) == ({"SuccessfulExit": False}, str(here))
    assert parsed["Install"]["WantedBy"] == "default.target"
    broken = here / "runs/test/tiny/events.jsonl"
    broken.write_text("".join(line for line in broken.read_text().splitlines(True) if '"run_finished"' not in line))
    said = bloomery("improve", RUN)
    assert said.code == 2
    assert "this run is unfinished" in said.err
    assert "bloomery run" in said.err


def test_a_run_without_a_cycle_and_one_without_a_model_are_one_clear_error(
    done: Path, bloomery: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(done)
    said = bloomery("improve", RUN)
    assert said.code == 2
    assert "has no cycle" in said.err
    assert "--plan PLAN" in said.err
    assert bloomery("improve", "test/none").code == 2
    said = bloomery("improve", RUN, "--memory", "4 Gib")
    assert (said.code, "--memory" in said.err) == (2, True)


def test_words_of_a_service_are_read_as_they_were_meant() -> None:
    how = Limits(10, 1, None, 2.0, "cpu")
    words = ["/opt/my tools/bloomery", "improve", "100%", 'a"b', "$HOME;"]
    unit = services.systemd("x", words, Path("/here"), how)
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).removeprefix("ExecStart=")
    assert shlex.split(start.replace("%%", "%").replace("$$", "$")) == words
    assert "MemoryMax" not in unit


@pytest.mark.parametrize(
    ("load", "running", "makes_way"),
    [(2.0, False, False), (2.1, False, True), (3.9, True, False), (4.1, True, True)],
)
def test_our_own_threads_are_no_load_of_others(load: float, running: bool, makes_way: bool) -> None:
    why = busy(Limits(10, 2, None, 2.0, "cpu"), lambda: load)(running)
    assert bool(why) == makes_way
    assert not why or "above 2" in why


def test_without_a_bound_others_may_use_the_cores_that_we_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(improving, "cores", lambda: 8)
    assert limits(10, 3, "", 0.0, "cpu").load == 5
    assert limits(10, 9, "", 0.0, "cpu").load == 1
    assert limits(10, 3, "1.5 GiB", 0.5, "cpu") == Limits(10, 3, 3 * 2**29, 0.5, "cpu")
    with pytest.raises(PlanError, match="--memory"):
        limits(10, 3, "much", 0.0, "cpu")


def test_a_crash_is_no_failed_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback alone would exit with 1, and the improver would go on for ever."""

    def crashes(folder: Path, how: improving.Limits) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(improving, "_launched", crashes)
    monkeypatch.setattr(improving, "_die_with_the_improver", lambda: None)
    assert improving.carry_out(tmp_path, improving.limits(0, 1, "", 0.0, "cpu")) == improving.CRASHED
