"""`improve` with a loop that carries specialists: a cycle trains those whose packets have grown, and no others."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from test_packets import SUBJECTS
from test_specialists import CONFIG, write

from bloomery.engine.artifact import digest_of
from bloomery.engine.events import read_events
from bloomery.engine.improving import what_the_run_left
from bloomery.plan.load import load
from support.command import Command, finished, process, tiny_plan

pytestmark = pytest.mark.slow


def plan(folder: Path) -> Path:
    write(folder / "manuals", range(12))
    packets = {"kind": "harmonic/packets", "config": CONFIG}
    shape = {"layers": 1, "width": 16, "heads": 2}
    training = {key: CONFIG[key] for key in ("batch", "context", "precision", "optimizer", "validation")}
    inner = {"id": "more", **packets, "needs": {"model": "base", "experts": "grow"},
             "gate": [{"metric": "packets/routed_loss", "op": "<", "value": 100}]}  # fmt: skip
    return tiny_plan(
        folder, baselines={}, control=None, suites={},
        data={"tokenizer": {"kind": "bytes"},
              "manuals": {"source": "text", "folder": "manuals", "split": {"train": "75%", "val": "25%"}}},
        stages=[
            {"id": "base", "kind": "pretrain",
             "config": {**training, "data": "manuals", "model": shape, "tokens": 640}},
            {"id": "shelves", **packets, "needs": {"model": "base"}},
            {"id": "grow", "repeat": 1, "needs": {"experts": "shelves"}, "stages": [inner]},
        ],
    )  # fmt: skip


def members(folder: Path) -> list[str]:
    return [digest_of(folder / "members" / str(one)) for one in range(3)]


def trained(cycle: Path) -> float:
    said: list[dict[str, Any]] = [
        event["measurement"] for event in read_events(cycle / "events.jsonl") if event["event"] == "measured"
    ]
    return next(one["value"] for one in said if one["name"] == "packets/trained")


def test_a_cycle_trains_the_specialist_whose_packets_grew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bloomery.report.page.write_report", lambda folder: folder / "report.html")
    bloomery = Command(monkeypatch, capsys)
    said = bloomery("run", plan(tmp_path), "--threads", "1", "--device", "cpu")
    assert said.code == 0, said.err
    left = what_the_run_left(tmp_path / "runs/test/tiny", load("tiny.yaml"))["experts"].folder
    draw = random.Random("new")
    for number in range(6):
        text = " ".join(draw.choice(SUBJECTS["sea"]) for _ in range(40))
        (tmp_path / "manuals" / f"sea{70 + number}.txt").write_text(text + "\n")
    said = finished(
        process(["improve", "test/tiny", "--once", "--load", "100000", "--nice", "0", "--device", "cpu"], tmp_path)
    )
    assert said.code == 0, said
    record = tmp_path / "runs/test/tiny-improve"
    held = json.loads((record / "promoted.json").read_text())["holds"]
    assert set(held) == {"experts"}
    assert trained(record / "1") == 1
    before, after = members(left), members(record / held["experts"]["path"])
    assert sum(old != new for old, new in zip(before, after, strict=True)) == 1
