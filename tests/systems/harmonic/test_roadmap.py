"""harmonic/roadmap made small: all five phases from one command, killed twice, with the same ending and one report."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from asked import manuals
from ruamel.yaml import YAML

import bloomery.systems.harmonic
from bloomery.engine.events import read_events
from support.command import finished, process, write_text

PLAN = Path(bloomery.systems.harmonic.__file__).parent / "plans/roadmap.yaml"
SMALL: dict[str, Any] = {
    "tokens": "3k tok", "batch": 4, "context": 128, "layers": 2, "width": 32, "heads": 2, "vocab": 400, "items": 4,
    "documents": 2, "rounds": 4, "axes": 2, "packets": 2, "multiple_choice": 8, "function_body": 4, "add": 5,
    "prompts": 1, "init.embedding_lr": [3],
}  # fmt: skip
PHASES = ("k0", "pretrain", "tune", "benchmark", "l2", "blend", "recovery", "improve-1-train", "cascade")


def smaller(node: Any) -> Any:
    if isinstance(node, list):
        return [smaller(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {key: SMALL[key] if key in SMALL and value is not None else smaller(value) for key, value in node.items()}


def small_plan(folder: Path) -> Path:
    """The shipped plan: its stages, rules and gates, with other numbers and a small text."""
    write_text(folder / "text")
    manuals(folder / "manuals")
    plan = smaller(json.loads(json.dumps(YAML(typ="safe").load(PLAN))))
    split = {"train": "60%", "dev": "20%", "val": "20%"}
    plan["data"]["corpus"] = {"source": "text", "folder": "text", "split": split}
    plan["data"]["manuals"] = {"source": "text", "folder": "manuals", "split": {"train": "80%", "val": "20%"}}
    plan["data"]["skills"]["examples"] = 1000
    del plan["suites"]["public"]
    plan["suites"]["samples"]["tokens"] = 8
    for stage in plan["stages"]:
        if "public" in stage.get("evaluate", []):
            stage["evaluate"].remove("public")
        for part in stage.get("stages", []):
            if part["id"] == "play":
                part["config"]["weakest"] = 1
            if "questions" in part["config"]:
                part["config"]["questions"] = 4
    plan["claims"] = [claim for claim in plan["claims"] if claim["id"] != "mmlu-35"]
    file = folder / "roadmap.yaml"
    file.write_text(json.dumps(plan, indent=1))
    return file


def run(folder: Path, runs: str) -> Any:
    return process(["run", "roadmap.yaml", "--runs", folder / runs, "--threads", "1"], folder)


def ending(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for event in read_events(folder / "harmonic/roadmap/events.jsonl"):
        if event["event"] == "cell_finished":
            told[event["stage"], event["attempt"], event["who"], event["seed"]] = event["hashes"]
        if event["event"] in ("verdict", "decision", "cycle_ended"):
            told[event["event"], event.get("stage"), event.get("attempt")] = event.get("status", event.get("action"))
    return told


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_twice_it_ends_alike_and_reports_five_phases(tmp_path: Path) -> None:
    small_plan(tmp_path)
    said = finished(run(tmp_path, "whole"))
    assert said.code in (0, 1), said.err
    expected = ending(tmp_path / "whole")
    assert {key[1] for key in expected if key[0] == "verdict"} >= {
        "k0",
        "pretrain",
        "tune",
        "benchmark",
        "l2",
        "cascade",
    }
    lines = (tmp_path / "whole/harmonic/roadmap/events.jsonl").read_bytes().count(b"\n")
    cut = tmp_path / "cut/harmonic/roadmap/events.jsonl"
    for moment in sorted(random.Random(time.time_ns()).sample(range(5, lines - 5), 2)):
        victim = run(tmp_path, "cut")
        while victim.poll() is None and (not cut.exists() or cut.read_bytes().count(b"\n") < moment):
            time.sleep(0.01)
        victim.kill()
        victim.communicate()
    said = finished(run(tmp_path, "cut"))
    assert said.code in (0, 1), said.err
    assert ending(tmp_path / "cut") == expected
    report = (tmp_path / "cut/harmonic/roadmap/report.md").read_text()
    assert [phase for phase in PHASES if phase not in report] == []
