"""A plan that pretrains, tunes on generated skills and made data with top-up, and tries again where it is weak: run
whole, killed and gone on with, and in worker processes, it comes to the same weights and verdicts."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bloomery.data.examples import Example, write_examples
from bloomery.engine.events import read_events
from bloomery.evaluate.gauntlet.item import CATEGORIES
from bloomery.stages.training import READINGS, readings_in
from support.command import finished, process, tiny_plan

SPLIT = {"train": "80%", "val": "10%", "test": "10%"}
SHARED = {"batch": 4, "context": 64, "precision": "fp32", "checkpoint_every": "0 s"}
LOOKS = {"split": "val", "every": "25%"}


def plan(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    made = [Example(f"Q: Say {n}.\nA:", str(n), "instruct", {"round": n}) for n in range(40)]
    write_examples(folder / "won", made, {"kind": "test"})
    tune = {
        **SHARED,
        "tokens": "8k tok",
        "data": {"skills": "80%", "won": "20%"},
        "validation": {**LOOKS, "examples": 2},
        "optimizer": {"lr": 0.05},
        "balance": {"at_most": "40%", "at_least": "3%", "examples": 20},
        "formats": {"multiple_choice": 20, "function_body": 10},
        "topup": {"loss_over_mean": 1.001, "below": "0%", "add": 20},
        "freeze": ["norm"],
    }
    weak = {"name": "weak categories", "set": {"topup.below": "60%", "topup.add": 30}, "from": "checkpoint"}
    stages = [
        {
            "id": "pretrain", "kind": "pretrain",
            "config": {
                **SHARED, "model": {"layers": 1, "width": 16, "heads": 2}, "tokens": "2k tok", "data": "skills",
                "validation": {**LOOKS, "documents": 2},
            },
        },
        {
            "id": "tune", "kind": "finetune", "needs": {"model": "pretrain", "won": "inputs.won"}, "config": tune,
            "gate": [
                {"metric": "gauntlet/*/accuracy", "op": ">", "value": "60%"},
                {"metric": "gauntlet/all/accuracy", "relative_to": "baseline:bigram", "as": "difference", "op": ">=",
                 "value": 0},
            ],
            "on_fail": [{**weak, "because": "some category is below its bar"}],
        },
    ]  # fmt: skip
    return tiny_plan(
        folder,
        seeds=[0],
        data={
            "tokenizer": {"kind": "bpe", "vocab": 400},
            "skills": {"source": "gauntlet", "examples": 640, "split_by": "tuple", "split": SPLIT},
        },
        inputs={"won": {"folder": "won"}},
        suites={"gauntlet": {"kind": "gauntlet", "data": "skills:test", "items": 1}},
        baselines={"bigram": {"kind": "ngram", "order": 2}},
        stages=stages,
    )


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    file = folder / "runs/test/tiny/events.jsonl"
    return [event for event in read_events(file) if event["event"] == name] if file.exists() else []


def results(folder: Path) -> Any:
    hashes = {(e["stage"], e["attempt"], e["who"]): e["hashes"] for e in told(folder, "cell_finished")}
    records = [file.read_text() for file in sorted((folder / "runs").rglob(READINGS))]
    return hashes, records, [(event["status"], event["conditions"]) for event in told(folder, "verdict")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    plan(folder)
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], folder))
    assert said.code == 1, said  # a model that small does not pass
    return folder


@pytest.mark.slow
def test_every_category_is_judged_and_the_weak_ones_get_more_in_the_next_attempt(whole: Path) -> None:
    states = sorted((whole / "runs/test/tiny/tune").rglob(READINGS))
    first, second = (readings_in(file.parent) for file in states)
    assert second[0] == first[0]
    assert first[0].added
    fresh = [one for one in second[1].added if one.step == 0][len(first[0].added) :]
    judged = {
        event["measurement"]["name"].split("/")[1]: event["measurement"]["value"]  # of its last look
        for event in told(whole, "measured")
        if event["measurement"]["name"].startswith("val/") and event["attempt"] == 1
        and event["measurement"]["name"].endswith("/accuracy") and event["measurement"]["who"] == "candidate"
    }  # fmt: skip
    assert [one.category for one in fresh] == [name for name in order(whole) if judged[name] < 0.6]
    assert {one.count for one in fresh} == {30}
    names = {event["measurement"]["name"] for event in told(whole, "measured")}
    assert {f"val/{category}/{what}" for category in CATEGORIES for what in ("loss", "accuracy")} <= names


def order(folder: Path) -> list[str]:
    """Of the categories, as the looks name them."""
    names = [event["measurement"]["name"] for event in told(folder, "measured") if event["stage"] == "tune"]
    looked = [name.split("/")[1] for name in names if name.startswith("val/") and name.endswith("/accuracy")]
    return list(dict.fromkeys(looked))


@pytest.mark.slow
def test_killed_in_both_attempts_it_goes_on_to_the_same(whole: Path, tmp_path: Path) -> None:
    plan(tmp_path)

    def tuned(attempt: int) -> int:
        return sum((e["stage"], e["attempt"]) == ("tune", attempt) for e in told(tmp_path, "point"))

    for attempt in (1, 2):
        running = process(["run", "tiny.yaml", "--threads", "1"], tmp_path)
        while tuned(attempt) < 13:
            assert running.poll() is None, finished(running)
        os.kill(running.pid, signal.SIGKILL)
        running.communicate()
        assert running.returncode == -signal.SIGKILL
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], tmp_path))
    assert said.code == 1, said
    assert len(told(tmp_path, "resumed")) == 2
    assert results(tmp_path) == results(whole)


@pytest.mark.slow
def test_in_a_worker_process_it_comes_to_the_same(whole: Path, tmp_path: Path) -> None:
    plan(tmp_path)
    said = finished(process(["run", "tiny.yaml", "--threads", "1", "--workers", "2"], tmp_path))
    assert said.code == 1, said
    assert results(tmp_path) == results(whole)


def test_such_a_plan_is_checked_without_a_problem(tmp_path: Path) -> None:
    plan(tmp_path)
    said = finished(process(["check", "tiny.yaml", "--json"], tmp_path))
    assert said.code == 0, said
    assert json.loads(said.out)["problems"] == []


@pytest.mark.slow
def test_data_that_a_later_stage_would_refuse_are_refused_before_the_first(tmp_path: Path) -> None:
    file = plan(tmp_path)
    settings = json.loads(file.read_text())
    tune = settings["stages"][1]
    tune["config"] |= {"data": "skills", "balance": {"at_most": "10%", "at_least": "3%", "examples": 20}}
    del tune["needs"]["won"], settings["inputs"]
    file.write_text(json.dumps(settings))
    said = finished(process(["run", file.name, "--threads", "1"], tmp_path))
    assert said.code == 2
    assert "stages.tune" in said.err
    assert "expected: at most 10%" in said.err
    (events,) = (tmp_path / "runs").rglob("events.jsonl")
    assert not [event for event in read_events(events) if event["event"] == "stage_started"]
