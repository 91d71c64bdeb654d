"""The arena of harmonic/roadmap, run as the plan has it: judged against its arm of random axes, a rival playing too."""

import json
from pathlib import Path
from typing import Any

import pytest
from asked import DATA, SKILLS, manuals

from bloomery.engine.events import read_events
from bloomery.plan.find import find_plan
from bloomery.plan.yaml_text import parse
from support.command import Command, tiny_plan

ROADMAP: Any = parse(find_plan("harmonic/roadmap").read_text(), "roadmap.yaml").value


def stage(name: str) -> dict[str, Any]:
    inner = [one for outer in ROADMAP["stages"] for one in (outer, *outer.get("stages", []))]
    return json.loads(json.dumps(next(one for one in inner if one["id"] == name)))


def plan(folder: Path) -> Path:
    manuals(folder / "manuals")
    training = {
        "batch": 4,
        "context": 64,
        "precision": "fp32",
        "optimizer": {"lr": 0.01},
        "tokens": 512,
        "validation": {"split": "val", "documents": 2},
    }
    model = {"layers": 1, "width": 16, "heads": 2, "basis": "sine", "compression": 2}
    base = {"id": "base", "kind": "pretrain", "config": {**training, "model": model, "data": "manuals"}}
    arena = stage("arena")
    few = {"axes": 2, "rounds": 3, "questions": 1, "weakest": 1, "competitors": [{"temperature": 0}]}
    arena |= {"needs": {"model": "base", "rival": "base"}, "config": few}
    return tiny_plan(
        folder, system="harmonic", baselines={}, control=None, suites={},
        data={**DATA, "skills": {**SKILLS, "examples": 80}},
        stages=[base, arena],
        claims=[{**one, "rows": []} for one in ROADMAP["claims"] if one.get("rows") == ["H-22"]],
    )  # fmt: skip


def test_what_weak_axes_yield_is_judged_against_axes_at_random_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bloomery.report.page.write_report", lambda folder: folder / "report.html")
    said = Command(monkeypatch, capsys)("run", plan(tmp_path), "--threads", "1", "--device", "cpu")
    assert said.code == 0, said.err
    events = read_events(tmp_path / "runs/test/tiny/events.jsonl")
    measured = {
        (event["who"], event["measurement"]["name"]): event["measurement"]["value"]
        for event in events
        if event["event"] == "measured"
    }
    difference = measured["arm:weakest", "play/yield"] - measured["arm:random", "play/yield"]
    (verdict,) = (event for event in events if event["event"] == "verdict" and event["stage"] == "arena")
    (condition,) = verdict["conditions"]
    assert (condition["metric"], condition["relative_to"]) == ("play/yield", "arm:random")
    assert condition["value"] == pytest.approx(difference)
    (claim,) = (event for event in events if event["event"] == "claim_judged")
    assert claim["id"] == "weak-axes-yield"
    assert claim["status"] in ("supported", "refuted", "undecided")
    cards = [json.loads(card.read_text()) for card in (tmp_path / "runs/test/tiny/arena").rglob("data/card.json")]
    assert [card["made_by"]["models"] for card in cards] == [["model", "rival"]] * 2


def test_the_loop_plays_against_a_rival_and_takes_what_was_voted_down() -> None:
    assert stage("play")["needs"] == {"model": "improve", "rival": "tune"}
    assert ROADMAP["data"][stage("capture")["config"]["served"]]["may_be_empty"] is True
