"""`run` and `register` as their users meet them: verdicts, exit codes, interruptions, and what is refused."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bloomery.cli import main, proving
from bloomery.engine.events import read_events
from bloomery.stages import models
from bloomery.train.parallel import World
from support.command import Command, environment, finished, process, tiny_plan

LONG = {"stages.0.config.tokens": "20k tok", "stages.0.gate": [], "stages.0.evaluate": []}


def events(folder: Path) -> list[dict[str, Any]]:
    return read_events(folder / "runs/test/tiny/events.jsonl")


def hashes(folder: Path) -> dict[tuple[str, int], Any]:
    return {(e["who"], e["seed"]): e["hashes"] for e in events(folder) if e["event"] == "cell_finished"}


def steps(folder: Path) -> int:
    return sum(event["event"] == "point" for event in events(folder))


# What a run says


def test_a_run_says_in_plain_lines_what_it_did(bloomery: Command, done: Path) -> None:
    shutil.copytree(done, "again")
    os.chdir("again")
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    assert said.code == 0
    assert said.err == ""
    assert "\x1b" not in said.out
    assert "test/tiny on cpu, 1 threads, in runs/test/tiny" in said.out
    assert "pretrain attempt 1: pass" in said.out
    assert "report: runs/test/tiny/report.html" in said.out
    assert "next:" in said.out
    assert (done / "runs/test/tiny/report.html").exists()


@pytest.mark.usefixtures("without_report")
def test_a_failed_gate_is_exit_code_one(bloomery: Command, tmp_path: Path) -> None:
    gate = [{"metric": "text/loss", "op": "<", "value": 0.01}]
    tiny_plan(tmp_path, **{"stages.0.gate": gate, "stages.0.config.tokens": "256 tok", "stages.0.evaluate": []})
    said = bloomery("run", "tiny.yaml")
    assert said.code == 1
    assert "no remedies" in said.out
    assert [event["exit_code"] for event in events(tmp_path) if event["event"] == "run_finished"] == [1]


@pytest.mark.usefixtures("without_report")
def test_a_spent_budget_is_exit_code_three_and_a_raised_one_goes_on(bloomery: Command, tmp_path: Path) -> None:
    changes = {"stages.0.gate": [], "stages.0.evaluate": [], "hypothesis": None}
    tiny_plan(tmp_path, **changes, budget={"tokens": "2k tok"})
    said = bloomery("run", "tiny.yaml")
    assert said.code == 2
    assert "one walk asks for" in said.err
    # The caps are there for walks that remedies add, and for seconds, which no plan knows.
    tiny_plan(tmp_path, **changes, budget={"wall": "10 ms"})
    said = bloomery("run", "tiny.yaml")
    assert said.code == 3
    assert "wall" in said.out
    tiny_plan(tmp_path, **changes, budget={"wall": "10 min"})
    assert bloomery("run", "tiny.yaml").code == 0


@pytest.mark.usefixtures("without_report")
def test_text_that_was_learned_under_another_name_is_not_judged(bloomery: Command, tmp_path: Path) -> None:
    same = {"source": "text", "folder": "text", "split": {"val": "40%", "train": "60%"}}
    changes = {"stages.0.config.tokens": "256 tok", "data.again": same, "hypothesis": None}
    tiny_plan(tmp_path, **changes, **{"suites.text.data": "again:val"})
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    assert said.code == 2
    assert "suites.text.data" in said.err
    assert "documents of again:val also stand in corpus:train, which a stage learns from" in said.err
    assert not any(event["event"] == "stage_started" for event in events(tmp_path))
    # Held out and judged by nobody, it is only told; the facts stand in the events.
    tiny_plan(tmp_path, **changes)
    assert bloomery("run", "tiny.yaml", "--threads", "1").code in (0, 1)
    notes = [event["text"] for event in events(tmp_path) if event["event"] == "note"]
    assert ["again:val also stand in corpus:train" in text for text in notes].count(True) == 1
    (ready,) = [event for event in events(tmp_path) if event["event"] == "data_ready"]
    assert ready["across"]["again:val"]["corpus:train"] > 0


@pytest.mark.usefixtures("without_report")
def test_preparing_the_data_is_metered(bloomery: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bloomery.stages import prepare

    made = prepare.prepare_for_run

    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(0.3)
        return made(*given, **named)

    monkeypatch.setattr(prepare, "prepare_for_run", slow)
    tiny_plan(tmp_path, **{"stages.0.gate": [], "stages.0.evaluate": [], "hypothesis": None}, budget={"wall": "0.3 s"})
    said = bloomery("run", "tiny.yaml")
    assert said.code == 3
    assert "wall" in said.out
    spent = [event for event in events(tmp_path) if event["event"] == "spent"]
    assert spent[0]["doing"] == "data"
    assert spent[0]["seconds"] >= 0.3
    total = [event["seconds"] for event in events(tmp_path) if event["event"] == "budget_spent"]
    assert total == [pytest.approx(sum(event["seconds"] for event in spent))]


def test_a_run_without_data_on_disk_writes_nothing(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path, **{"data.corpus.folder": "no/such/place"})
    said = bloomery("run", "tiny.yaml")
    assert said.code == 2
    assert "no/such/place" in said.err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["text", "tiny.yaml"]


def test_a_runs_folder_that_cannot_be_written(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path)
    (tmp_path / "file").write_text("")
    for verb in ("run", "register"):
        said = bloomery(verb, "tiny.yaml", "--runs", "file/runs")
        assert said.code == 2
        assert "cannot be written" in said.err
        assert "--runs" in said.err


def test_another_process_at_work_is_told(bloomery: Command, tmp_path: Path) -> None:
    from bloomery.engine.rundir import Lock

    tiny_plan(tmp_path)
    with Lock(tmp_path / "runs/test/tiny"):
        said = bloomery("run", "tiny.yaml")
    assert said.code == 2
    assert f"pid {os.getpid()}" in said.err


# Registration


@pytest.mark.usefixtures("without_report")
def test_register_amend_and_run(bloomery: Command, tmp_path: Path) -> None:
    short = {"stages.0.config.tokens": "256 tok", "stages.0.gate": [], "stages.0.evaluate": []}
    tiny_plan(tmp_path, **short)
    assert bloomery("register", "tiny.yaml", "--amend", "why").code == 2
    assert not (tmp_path / "runs").exists()
    assert "registered test/tiny" in bloomery("register", "tiny.yaml").out
    assert bloomery("register", "tiny.yaml").code == 0
    tiny_plan(tmp_path, **short, variable="the rate")
    before = (tmp_path / "runs/test/tiny/events.jsonl").read_text()
    said = bloomery("run", "tiny.yaml")
    assert said.code == 2
    assert "registered" in said.err
    assert (tmp_path / "runs/test/tiny/events.jsonl").read_text() == before
    assert bloomery("register", "tiny.yaml").code == 2
    assert bloomery("register", "tiny.yaml", "--amend", " ").code == 2
    said = bloomery("register", "tiny.yaml", "--amend", "it was forgotten")
    assert "changed: variable" in said.out
    assert bloomery("run", "tiny.yaml").code == 0
    told = [event["event"] for event in events(tmp_path)]
    assert told[:3] == ["registered", "amended", "run_opened"]
    assert told.count("registered") == told.count("amended") == 1


def test_an_exploratory_plan_is_not_registered(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path, hypothesis=None)
    said = bloomery("register", "tiny.yaml")
    assert said.code == 2
    assert "hypothesis" in said.err
    assert not (tmp_path / "runs").exists()


# Interruptions


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The hashes of the long plan, trained without a break."""
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny_plan(folder, **LONG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("bloomery.report.page.write_report", lambda folder: folder)
        patch.setattr("sys.argv", ["bloomery", "run", "tiny.yaml", "--threads", "1"])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 0
    return hashes(folder), steps(folder)


def signal_once(reached: Callable[[], bool], number: signal.Signals) -> threading.Thread:
    def wait() -> None:
        while not reached():
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_next_run_ends_alike(
    bloomery: Command, tmp_path: Path, undisturbed: Any, number: signal.Signals, code: int
) -> None:
    tiny_plan(tmp_path, **LONG)
    waiting = signal_once(lambda: steps(tmp_path) > 25, number)
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    waiting.join()
    assert said.code == code
    assert "interrupted; everything is saved. To go on: bloomery run tiny.yaml" in said.out
    assert events(tmp_path)[-1]["event"] == "interrupted"
    saved = list((tmp_path / "runs/test/tiny/pretrain/1/candidate-seed0/checkpoint").glob("step-*"))
    assert saved
    assert bloomery("run", "tiny.yaml", "--threads", "3").code == 0  # threads are kept as they were
    assert (hashes(tmp_path), steps(tmp_path)) == undisturbed  # nothing was trained twice


def test_how_to_go_on_can_be_pasted() -> None:
    from bloomery.cli.running import _again

    again = _again("my plan.yaml", ["stages.a.config.optimizer={lr: 0.2}", "name='x'"], Path("my runs"), "cpu", 2)
    assert shlex.split(again) == [
        "my plan.yaml", "--set", "stages.a.config.optimizer={lr: 0.2}", "--set", "name='x'", "--runs", "my runs",
        "--device", "cpu", "--workers", "2",
    ]  # fmt: skip
    assert _again("quickstart", [], Path("runs"), "auto", 1) == "quickstart"


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_ctrl_c_as_a_process_meets_it(bloomery: Command, tmp_path: Path, undisturbed: Any) -> None:
    tiny_plan(tmp_path, **LONG)
    running = process(["run", "tiny.yaml", "--threads", "1"], tmp_path)
    while steps(tmp_path) < 5 and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    said = finished(running)
    assert said.code == 130, said
    assert "To go on" in said.out
    assert "Traceback" not in said.err
    assert bloomery("run", "tiny.yaml").code == 0
    assert hashes(tmp_path) == undisturbed[0]


def test_ctrl_c_before_there_is_anything_to_save(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.yaml")  # reading it waits
    script = "import sys; sys.argv = ['bloomery', 'check', 'plan.yaml']; from pathlib import Path; "
    script += "Path.is_file = lambda self: True; from bloomery.cli import main; print('ready', flush=True); main()"
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, **pipes)
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    time.sleep(1)
    running.send_signal(signal.SIGINT)
    said = finished(running)
    assert said.code == 130, said
    assert said.err == "interrupted\n"


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_alike(tmp_path: Path, undisturbed: Any) -> None:
    tiny_plan(tmp_path, **LONG)
    draw = random.Random()
    for _ in range(5):
        running = process(["run", "tiny.yaml", "--threads", "1"], tmp_path)
        wanted = steps(tmp_path) + draw.randrange(1, 60)
        while running.poll() is None and steps(tmp_path) < wanted:
            time.sleep(0.001)
        time.sleep(draw.random() / 20)
        running.kill()
        finished(running)
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], tmp_path))
    assert said.code == 0, said
    assert hashes(tmp_path) == undisturbed[0]


@pytest.mark.slow
def test_verify_resume_proves_it(tmp_path: Path) -> None:
    tiny_plan(tmp_path, **LONG)
    arguments = ["verify-resume", "tiny.yaml", "--stage", "pretrain", "--kills", "2", "--threads", "1"]
    arguments += ["--tokens", "60k tok"]
    said = finished(process(arguments, tmp_path))
    assert "candidate seed 0: equal" in said.out, said
    assert "DIFFERENT" not in said.out
    # On a very fast machine both kills may come before the first checkpoint; then it must say so.
    assert (said.code == 0 and "bit-exact" in said.out) or (said.code == 1 and "not shown" in said.out)
    assert not (tmp_path / "runs").exists()


def test_verify_resume_names_the_stages_that_there_are(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path)
    said = bloomery("verify-resume", "tiny.yaml", "--stage", "pretrian")
    assert said.code == 2
    assert "did you mean 'pretrain'?" in said.err


def test_verify_resume_refuses_a_stage_that_does_not_train(bloomery: Command, tmp_path: Path) -> None:
    plan = json.loads(tiny_plan(tmp_path).read_text())
    look = {"id": "look", "kind": "evaluate", "needs": {"model": "pretrain.model"}, "evaluate": ["text"]}
    tiny_plan(tmp_path, stages=[*plan["stages"], look])
    said = bloomery("verify-resume", "tiny.yaml", "--stage", "look")
    assert said.code == 2
    assert "'look' does not train" in said.err
    assert "those that train: pretrain" in said.err


HASHES = {"weights": "a" * 64, "optimiser": "b" * 64}


@pytest.mark.parametrize(
    ("found", "resumed", "code", "words"),
    [
        (HASHES, 1, 0, "resume is bit-exact"),
        (HASHES, 0, 1, "not shown: every kill came before the first checkpoint; use a longer --tokens"),
        (HASHES | {"weights": "c" * 64}, 0, 1, "resume is NOT bit-exact here"),
    ],
)
def test_verify_resume_claims_only_what_it_saw(
    found: Any, resumed: int, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert proving._compare({"candidate seed 0": HASHES}, {"candidate seed 0": found}, resumed) == code
    assert capsys.readouterr().out.splitlines()[-1].startswith(words)


def test_verify_resume_claims_nothing_of_a_stage_without_hashes(capsys: pytest.CaptureFixture[str]) -> None:
    assert proving._compare({}, {}, 1) == 1
    assert capsys.readouterr().out == "not shown: no cell of this stage trains\n"


# What may change


@pytest.mark.usefixtures("without_report")
def test_other_text_under_the_same_plan_is_refused_unless_allowed(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path, **LONG)
    waiting = signal_once(lambda: steps(tmp_path) > 5, signal.SIGINT)
    assert bloomery("run", "tiny.yaml", "--threads", "1").code == 130
    waiting.join()
    (tmp_path / "text/00.txt").write_text("other words " * 30)
    said = bloomery("run", "tiny.yaml")
    assert said.code == 2
    assert "runs/test/tiny: data" in said.err
    assert "--allow-changed data" in said.err
    assert bloomery("run", "tiny.yaml", "--allow-changed", "data").code == 0
    ready = [event["digest"] for event in events(tmp_path) if event["event"] == "data_ready"]
    assert len(set(ready)) == len(ready) == 2
    finished = [(e["attempt"], e["tokens"]) for e in events(tmp_path) if e["event"] == "cell_finished"]
    assert finished == [(2, 20_000 // 128 * 128)]  # nothing that the other text taught is in it


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_another_world_is_refused_unless_allowed(
    bloomery: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_plan(tmp_path, **LONG)
    waiting = signal_once(lambda: steps(tmp_path) > 5, signal.SIGINT)
    assert bloomery("run", "tiny.yaml", "--threads", "1").code == 130
    waiting.join()
    monkeypatch.setattr("bloomery.train.loop.world", lambda: World(size=2))
    said = bloomery("run", "tiny.yaml", "--allow-changed", "batch")
    assert said.code == 2
    assert "--allow-changed world" in said.err
    done_before = steps(tmp_path)
    assert bloomery("run", "tiny.yaml", "--allow-changed", "world", "--allow-changed", "device").code == 0
    notes = [event["text"] for event in events(tmp_path) if event["event"] == "note"]
    assert any(text.startswith("goes on from step") for text in notes)
    assert steps(tmp_path) > done_before
    told = [event["allowed_changes"] for event in events(tmp_path) if event["event"] == "resumed"]
    assert told == [["batch"], ["world", "device"]]


# Memory


@pytest.mark.usefixtures("without_report")
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
)
def test_no_memory_is_said_and_is_no_failed_gate(
    error: Exception, bloomery: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("bloomery.train.loop.fit", fit)
    tiny_plan(tmp_path, **LONG)
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    assert said.code == 2
    assert "exhausted at batch 4, accumulate 1, context 32" in said.err
    for words in (str(error), "smaller `batch`", "`accumulate`", "activation_checkpointing", "bloomery budget"):
        assert words in said.err
    assert not any(event["event"] == "verdict" for event in events(tmp_path))


@pytest.mark.usefixtures("without_report")
def test_no_memory_for_the_weights_is_said_too(
    bloomery: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In petabytes, so that no machine has it: the allocator itself refuses.
    real = models.build
    monkeypatch.setattr(
        models, "build", lambda *given, **named: torch.empty(2**51) if "seed" in named else real(*given, **named)
    )
    tiny_plan(tmp_path, **LONG)
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    assert said.code == 2
    for words in ("memory of cpu", "exhausted while building the model of the candidate", "bloomery budget"):
        assert words in said.err
    assert not any(event["event"] == "verdict" for event in events(tmp_path))


@pytest.mark.slow
def test_no_compiler_is_said(tmp_path: Path) -> None:
    tiny_plan(tmp_path, **LONG, **{"stages.0.config.compile": True})
    nowhere = environment(CXX="/nowhere/c++", TORCHINDUCTOR_CACHE_DIR=str(tmp_path / "cache"))
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], tmp_path, env=nowhere))
    assert said.code == 2, said
    assert said.err.startswith("error: compile: true: torch.compile cannot compile this model here (")
    for words in ("/nowhere/c++", "a working C++ compiler", "apt install g++", "`compile: false`"):
        assert words in said.err
    assert "Traceback" not in said.err
    assert not any(event["event"] == "cell_failed" for event in events(tmp_path))


# Pipes


def closed_pipe(command: list[str], folder: Path) -> tuple[int, str]:
    """Exit code and stderr of a process whose reader is gone before it says anything."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, *command], cwd=folder, **pipes) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        return running.wait(timeout=300), running.stderr.read()


def test_a_reader_that_has_seen_enough(done: Path) -> None:
    for verb in ("schema", "plans", "runs"):
        assert closed_pipe(["-m", "bloomery", verb], done) == (0, ""), verb


def test_a_run_goes_on_though_nobody_reads_it(tmp_path: Path) -> None:
    script = (
        "import sys; from bloomery.cli.console import console; screen = console()\n"
        "for _ in range(3): screen.print('step')\n"
        "sys.stderr.write('went on')"
    )
    assert closed_pipe(["-c", script], tmp_path) == (0, "went on")


def test_the_plan_in_a_run_folder_is_the_plan_that_was_run(done: Path) -> None:
    assert json.loads((done / "runs/test/tiny/plan.yaml").read_text())["name"] == "test/tiny"
