"""A plan that asks the builtin suite: trained, and judged beside its control on the same questions."""

from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.events import read_events
from support.command import Command, tiny_plan

BENCH = {"kind": "builtin", "tasks": ["choice", "completion", "continuation"], "items": 6, "tokens": 8}
RECALL = {"kind": "builtin", "tasks": ["induction", "word_order"], "items": 12, "contexts": [16, 32]}
GATE = [
    {"metric": "bench/choice/accuracy", "op": ">=", "value": "0%"},
    {"metric": "bench/completion/pass_rate", "op": "<=", "value": "50%"},
    {"metric": "recall/induction_32/accuracy", "relative_to": "control", "as": "difference", "op": ">=", "value": -1},
    {"metric": "recall/word_order_16/accuracy", "op": ">=", "value": "0%", "confidence": "90%"},
]


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_a_plan_is_judged_by_the_builtin_suite(bloomery: Command, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"suites": {"bench": BENCH, "recall": RECALL}, "stages.0.evaluate": []}
    tiny_plan(tmp_path, **changes, **{"stages.0.gate": GATE})
    assert bloomery("check", "tiny.yaml").code == 0
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    assert said.code == 0, said.out + said.err
    events = list(read_events(tmp_path / "runs/test/tiny/events.jsonl"))
    measured = [event["measurement"] for event in events if event["event"] == "measured" and "suite" in event]
    named = {(one["who"], one["name"]): one for one in measured}
    mine, control = (named[who, "recall/induction_32/accuracy"] for who in ("candidate", "control"))
    assert mine["n"] == control["n"] == 12
    assert mine["items"]["key"] == control["items"]["key"]
    assert len(mine["interval"]) == 3
    assert ("candidate", "bench/choice/accuracy_norm") in named
    (verdict,) = [event for event in events if event["event"] == "verdict"]
    assert verdict["status"] == "pass"


def test_a_metric_that_no_task_measures_is_found_before_anything_runs(bloomery: Command, tmp_path: Path) -> None:
    gate = [{"metric": "bench/induction/accuracy", "op": ">=", "value": "0%"}]
    tiny_plan(tmp_path, **{"suites": {"bench": BENCH}, "stages.0.evaluate": [], "stages.0.gate": gate})
    said = bloomery("check", "tiny.yaml")
    assert said.code == 2
    assert "bench/induction/accuracy" in said.out + said.err
