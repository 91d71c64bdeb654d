"""The loop of phase 5 in a real run: play, capture, gaps, training, and a gate that the cycle beats or is undone by.

The model learns to answer with a count from the gauntlet's counting questions; it is judged on templates that it never
saw. Nothing is faked: with a real rate the cycle passes, with a rate of almost nothing it cannot. What it learns in
seconds is to answer with some count, about as good as the best constant: the loop is tested here, not its worth.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from asked import manuals

from bloomery.engine.artifact import digest_of
from support.command import Command, tiny_plan

SHAPE = {"layers": 1, "width": 48, "heads": 2, "basis": "sine", "compression": 2}
TRAINING = {"batch": 8, "context": 96, "packing": "documents", "precision": "fp32"}


def plan(folder: Path, rate: float, tokens: int, *, repeat: int, items: int) -> Path:
    manuals(folder / "manuals")
    won = {"metric": "gauntlet/weakest/accuracy", "relative_to": "stage:improve", "as": "difference"}
    cycle = [
        {"id": "play", "kind": "harmonic/self_play", "needs": {"model": "improve"},
         "config": {"axes": 2, "rounds": 6, "questions": 2, "weakest": 1}},
        {"id": "capture", "kind": "harmonic/capture", "needs": {"model": "improve"},
         "config": {"data": "skills", "score_below": 0.5, "questions": 60}},
        {"id": "gaps", "kind": "harmonic/gap_extraction", "needs": {"model": "improve"},
         "config": {"data": "manuals", "questions": 20}},
        {"id": "train", "kind": "finetune",
         "needs": {"model": "improve", "won": "play.data", "missed": "capture.data", "read": "gaps.data"},
         "config": {**TRAINING, "data": {"skills": 0.4, "won": 0.3, "missed": 0.2, "read": 0.1},
                    "tokens": tokens, "optimizer": {"lr": rate}, "validation": {"split": "val", "examples": 4}},
         "gate": [{**won, "op": ">", "value": 0, "confidence": "90%"}]},
    ]  # fmt: skip
    return tiny_plan(
        folder,
        system="harmonic", baselines={}, data={
                "tokenizer": {"kind": "bpe", "vocab": 300, "fit_on": "skills:train"},
                "skills": {
                    "source": "gauntlet", "examples": 1200, "shares": {"counting": 1.0}, "split_by": "tuple",
                    "split": {"train": "80%", "val": "10%", "test": "10%"},
                },
                "manuals": {"source": "text", "folder": "manuals", "split": {"train": "80%", "val": "20%"}},
            }, suites={"gauntlet": {"kind": "gauntlet", "data": "skills:held_out", "items": items}}, stages=[
                {"id": "base", "kind": "pretrain", "config": {
                    **TRAINING, "model": SHAPE, "data": "skills", "tokens": 768, "optimizer": {"lr": 0.01},
                    "validation": {"split": "val", "documents": 4}}},
                {"id": "improve", "repeat": repeat, "needs": {"model": "base"}, "stages": cycle},
                {"id": "judge", "kind": "evaluate", "needs": {"model": "improve"}, "evaluate": ["gauntlet"]},
            ],
    )  # fmt: skip


@pytest.fixture
def bloomery(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def events(folder: Path) -> list[dict[str, Any]]:
    (file,) = (folder / "runs").rglob("events.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in events(folder) if event["event"] == name]


def model_of(folder: Path, stage: str) -> str:
    (run,) = (folder / "runs").glob("**/events.jsonl")
    return digest_of(next((run.parent / stage).glob("1/*/model")))


@pytest.mark.slow
def test_a_cycle_that_beats_its_gate_is_promoted(bloomery: Command, tmp_path: Path) -> None:
    said = bloomery("run", plan(tmp_path, rate=0.03, tokens=80_000, repeat=1, items=100), "--threads", "1")
    assert said.code == 0, said.out + said.err
    assert [(event["cycle"], event["kept"]) for event in told(tmp_path, "cycle_ended")] == [(1, True)]
    verdict = next(event for event in told(tmp_path, "verdict") if event["stage"] == "improve-1-train")
    (condition,) = verdict["conditions"]
    assert condition["metric"] == "gauntlet/weakest/accuracy"
    assert condition["status"] == "pass"
    assert condition["value"] > 0, "beyond its interval: the one-sided bound cleared zero"
    inputs = [event["inputs"]["model"] for event in told(tmp_path, "cell_started") if event["stage"] == "judge"]
    assert inputs == [model_of(tmp_path, "improve-1-train")]


@pytest.mark.slow
def test_a_cycle_that_does_not_beat_its_gate_is_rolled_back(bloomery: Command, tmp_path: Path) -> None:
    said = bloomery("run", plan(tmp_path, rate=1e-9, tokens=768, repeat=2, items=20), "--threads", "1")
    assert said.code == 0, said.out + said.err
    ended = told(tmp_path, "cycle_ended")
    assert [(event["cycle"], event["kept"], event["at"]) for event in ended] == [(1, False, "train")]
    (loop,) = told(tmp_path, "loop_ended")
    assert (loop["cycles"], loop["of"]) == (0, 2)
    inputs = [event["inputs"]["model"] for event in told(tmp_path, "cell_started") if event["stage"] == "judge"]
    assert inputs == [model_of(tmp_path, "base")]
    made = {event["stage"] for event in told(tmp_path, "artifact") if event["output"] == "data"}
    assert made == {"improve-1-play", "improve-1-capture", "improve-1-gaps"}
