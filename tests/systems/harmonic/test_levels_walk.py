"""The levels in a plan: pretrain, to_l2 against its controls, to_l3 after to_l2 passed; killed inside a recovery."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.events import Event, read_events
from support.command import finished, process, tiny_plan

RECOVER = {"data": "corpus", "tokens": "5k tok", "lr": 0.05, "batch": 4, "context": 32, "checkpoint_every": "50 ms"}
L2 = {
    "id": "l2",
    "kind": "harmonic/to_l2",
    "needs": {"model": "pretrain"},
    "config": {"meta_components": 4, "precision": "fp32", "recover": RECOVER},
    "arms": {"fitted": {}, "frozen": {"set": {"linears": "frozen_random"}}},
    "candidate": "fitted",
    "control": {"set": {"form": "low_rank"}},
    "gate": [
        {"metric": "text/loss", "relative_to": "control", "op": "<=", "value": 1.5},
        {"metric": "text/loss", "relative_to": "arm:frozen", "op": "<", "value": 1.5},
        {"metric": "text/loss", "relative_to": "stage:pretrain", "op": "<=", "value": 2.0},
        {"metric": "convert/unexplained_energy", "op": "<=", "value": 1.0},
    ],
    "optional": True,
}
L3 = {
    "id": "l3",
    "kind": "harmonic/to_l3",
    "needs": {"model": "l2", "validated": "l2.passed"},
    "config": {"depth_harmonics": 2, "precision": "fp32", "recover": RECOVER},
    "gate": [{"metric": "text/loss", "relative_to": "stage:l2", "op": "<=", "value": 1.2}],
    "optional": True,
}


def plan(folder: Path, *, within: float = 2.0) -> Path:
    file = tiny_plan(folder)
    written: dict[str, Any] = json.loads(file.read_text())
    written |= {"system": "harmonic", "control": {"twin": "dense", "match": "stored", "tolerance": "20%"}}
    written["stages"][0]["config"]["model"] = {"layers": 2, "width": 16, "heads": 2, "compression": 3}
    written["stages"][0].pop("gate")
    written["stages"][0].pop("evaluate")
    gate = [*L2["gate"][:2], {**L2["gate"][2], "value": within}, L2["gate"][3]]
    written["stages"] += [{**L2, "gate": gate}, L3]
    written.pop("baselines")
    written["suites"].pop("samples")
    file.write_text(json.dumps(written))
    return file


def events(folder: Path) -> list[Event]:
    return read_events(folder / "runs/test/tiny/events.jsonl")


def hashes(folder: Path) -> dict[tuple[Any, ...], Any]:
    return {
        (event["stage"], event["who"]): event["hashes"] for event in events(folder) if event["event"] == "cell_finished"
    }


@pytest.mark.slow
def test_levels_are_walked_in_order_and_killed_inside_a_recovery_end_alike(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        plan(folder)
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], whole))
    assert said.code == 0, said.err
    verdicts = {event["stage"]: event["status"] for event in events(whole) if event["event"] == "verdict"}
    assert verdicts == {"pretrain": "pass", "l2": "pass", "l3": "pass"}
    assert {who for stage, who in hashes(whole) if stage == "l2"} == {"arm:fitted", "arm:frozen", "control"}

    killed = 0
    for _ in range(2):
        before = _saved(cut)
        running = process(["run", "tiny.yaml", "--threads", "1"], cut)
        while running.poll() is None and _saved(cut) in (before, None):
            time.sleep(0.002)
        killed += running.poll() is None
        running.kill()
        finished(running)
    assert killed
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], cut))
    assert said.code == 0, said.err
    assert hashes(cut) == hashes(whole)


def _saved(folder: Path) -> str | None:
    """The newest checkpoint inside the stages of the levels."""
    found = {}
    for part in (folder / "runs").glob("test/tiny/l[23]/**/checkpoint/*"):
        with contextlib.suppress(OSError):
            found[str(part)] = part.stat().st_mtime_ns
    return max(found, key=lambda one: found[one], default=None)


@pytest.mark.slow
def test_a_level_that_fails_hands_on_what_came_in_and_ends_the_levels(tmp_path: Path) -> None:
    plan(tmp_path, within=0.1)
    said = finished(process(["run", "tiny.yaml", "--threads", "1"], tmp_path))
    assert said.code == 0, said.err
    decisions = {event["stage"]: event["action"] for event in events(tmp_path) if event["event"] == "decision"}
    assert decisions["l2"] == "not_promoted"
    assert not [stage for stage, _ in hashes(tmp_path) if stage == "l3"]
