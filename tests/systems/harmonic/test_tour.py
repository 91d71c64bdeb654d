"""harmonic/tour for real: every part of the grammar in one plan, killed ten times at random, with the same ending."""

import random
import time
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.events import Event, read_events
from support.command import finished, process

KILLS = 10


def run(folder: Path) -> Any:
    return process(["run", "tour", "--runs", folder, "--threads", "1"], folder)


def events_of(folder: Path) -> list[Event]:
    file = folder / "harmonic/tour/events.jsonl"
    return read_events(file) if file.exists() else []


def lines_of(folder: Path) -> int:
    file = folder / "harmonic/tour/events.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def ending(events: list[Event]) -> dict[str, Any]:
    """What a run comes to: the hashes of every cell, and everything that was decided."""
    told: dict[str, Any] = {
        (event["stage"], event["attempt"], event["who"], event["seed"]): event["hashes"]
        for event in events
        if event["event"] == "cell_finished"
    }
    for event in events:
        name = event["event"]
        if name in ("verdict", "decision"):
            told[name, event["stage"], event["attempt"]] = event.get("status") or event.get("action")
        elif name == "sweep_chosen":
            told[name, event["stage"], event["attempt"], event["who"]] = event["chosen"]
        elif name in ("candidate_chosen", "cycle_ended", "loop_ended", "claim_judged"):
            kept = {key: value for key, value in event.items() if key in ("candidate", "kept", "cycles", "status")}
            told[name, event.get("stage"), event.get("cycle"), event.get("id")] = kept
    return told


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_killed_ten_times_it_ends_alike(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    said = finished(run(whole))
    assert said.code == 0, said.err
    events = events_of(whole)
    expected = ending(events)

    # What the plan is there to show, it shows.
    assert {event["who"] for event in events if event["event"] == "sweep_chosen"} == {
        "arm:four", "arm:sixteen", "control",
    }  # fmt: skip
    assert expected["decision", "cool", 1] == "retry"
    assert expected["verdict", "cool", 2] == "pass"
    assert expected["decision", "shake", 1] == "not_promoted"
    cycles = [(event["cycle"], event["kept"]) for event in events if event["event"] == "cycle_ended"]
    assert cycles == [(1, True), (2, False)]
    claims = {event["id"]: event["status"] for event in events if event["event"] == "claim_judged"}
    assert claims == {"fewer-shared": "supported", "shaking-helps": "refuted", "cooling-is-faster": "undecided"}

    draw = random.Random()
    moments = sorted(draw.sample(range(5, len(events) - 5), KILLS))
    for moment in moments:
        victim = run(cut)
        while victim.poll() is None and lines_of(cut) < moment:
            time.sleep(0.01)
        victim.kill()
        victim.communicate()
    said = finished(run(cut))
    assert said.code == 0, said.err
    assert ending(events_of(cut)) == expected, f"killed at events {moments}"
    report = (cut / "harmonic/tour/report.md").read_text()
    for claim, status in claims.items():
        assert claim in report
        assert status in report
