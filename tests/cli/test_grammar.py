"""The whole grammar through the command line, on a plan that trains in seconds: what only real stages can show."""

from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.events import Event, read_events
from support.command import Command, tiny_plan, write_text

TUNE = {"tokens": "1k tok", "batch": 4, "context": 32, "precision": "fp32", "optimizer": {"lr": 0.05},
        "validation": {"split": "val", "every": "50%", "documents": 2}}  # fmt: skip


def events(folder: Path) -> list[Event]:
    return read_events(next(folder.glob("runs/**/events.jsonl")))


def told(folder: Path, name: str) -> list[Event]:
    return [event for event in events(folder) if event["event"] == name]


def plan(folder: Path, *more: dict[str, Any], **changes: Any) -> Path:
    import json

    file = tiny_plan(folder, **changes)
    content = json.loads(file.read_text())
    content["stages"] += more
    file.write_text(json.dumps(content))
    return file


@pytest.mark.slow
def test_a_rule_may_change_the_data(bloomery: Command, tmp_path: Path) -> None:
    write_text(tmp_path / "more", documents=20)
    rule = {"name": "more text", "set": {"data": {"corpus": "50%", "more": "50%"}}, "because": "too little of it"}
    file = plan(tmp_path, **{
        "data.more": {"source": "text", "folder": "more", "split": {"train": "80%", "val": "20%"}},
        "stages.0.gate": [{"metric": "text/loss", "op": "<", "value": 0.01}],
        "stages.0.on_fail": [rule, {"name": "on", "then": "go_on", "because": "seen"}],
        "control": None, "baselines": {},
    })  # fmt: skip
    bloomery("run", file)
    readings = {
        path.parts[-4]: path.read_text() for path in tmp_path.glob("runs/**/candidate-seed0/state/readings.json")
    }
    assert '"more"' not in readings["1"]
    assert '"more": 0.5' in readings["2"]


def test_stop_if_watches_what_training_measures(bloomery: Command, tmp_path: Path) -> None:
    stop = [{"metric": "train/loss", "op": "<", "value": 100, "after": "50%"}]
    file = plan(tmp_path, **{"stages.0.stop_if": stop, "control": None, "baselines": {}, "stages.0.gate": []})
    said = bloomery("run", file)
    assert said.code == 1
    assert "stop_if: train/loss" in said.out + said.err
    steps = {event["measurement"]["step"] for event in told(tmp_path, "measured") if "step" in event["measurement"]}
    assert max(steps) == 20, "the first look, at half of the 39 steps"


@pytest.mark.slow
def test_a_twin_goes_through_finetuning_too(bloomery: Command, tmp_path: Path) -> None:
    gate = [{"metric": "text/loss", "relative_to": "control", "op": "<=", "value": 2}]
    file = plan(
        tmp_path,
        {"id": "tune", "kind": "finetune", "needs": {"model": "pretrain"}, "config": TUNE, "gate": gate},
        **{"stages.0.gate": []},
    )
    assert bloomery("run", file).code == 0
    made = {(event["stage"], event["who"]): event for event in told(tmp_path, "artifact") if event["output"] == "model"}
    assert set(made) == {(stage, who) for stage in ("pretrain", "tune") for who in ("candidate", "control")}
    assert made["tune", "control"]["parents"] == [made["pretrain", "control"]["digest"]]


@pytest.mark.slow
def test_a_baseline_reads_what_every_stage_has_read(bloomery: Command, tmp_path: Path) -> None:
    """Fitted beside the second stage it knows more than beside the first, which read less."""
    gate = [{"metric": "text/loss", "relative_to": "baseline:bigram", "op": "<", "value": 99}]
    file = plan(
        tmp_path,
        {"id": "tune", "kind": "finetune", "needs": {"model": "pretrain"}, "config": {**TUNE, "data": "other"},
         "gate": gate},
        **{"stages.0.gate": gate, "control": None,
           "data.other": {"source": "text", "folder": "text", "split": {"train": "80%", "val": "20%"}}},
    )  # fmt: skip
    assert bloomery("run", file).code == 0
    tables = {event["stage"]: event["digest"] for event in told(tmp_path, "artifact") if "baseline" in event["who"]}
    assert tables["pretrain"] != tables["tune"]


@pytest.mark.slow
def test_a_model_of_an_earlier_run(bloomery: Command, tmp_path: Path) -> None:
    import json

    assert bloomery("run", tiny_plan(tmp_path)).code == 0
    content = json.loads((tmp_path / "tiny.yaml").read_text())
    content |= {"name": "test/second", "inputs": {"base": {"run": "test/tiny:pretrain"}}, "baselines": {}}
    content["stages"] = [{"id": "tune", "kind": "finetune", "needs": {"model": "inputs.base"}, "config": TUNE}]
    del content["control"]
    (tmp_path / "second.yaml").write_text(json.dumps(content))
    said = bloomery("run", tmp_path / "second.yaml")
    assert said.code == 0, said.err
