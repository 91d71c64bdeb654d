"""A plan whose gate rests on lm-evaluation-harness, from the command line."""

import importlib.util
from pathlib import Path

import pytest

from bloomery.engine.events import read_events
from support import published
from support.command import Command, tiny_plan


@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed (pip install -e '.[eval]')"
)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("without_report")
def test_model_and_control_are_paired_on_the_same_questions(bloomery: Command, tmp_path: Path) -> None:
    published.write(tmp_path / "benchmarks")
    known = {"kind": "lmeval", "tasks": ["winogrande", "mmlu_anatomy"], "shots": {"mmlu_anatomy": 2}, "limit": 8}
    compare = {"relative_to": "control", "as": "difference", "op": ">=", "confidence": 0.95}
    tiny_plan(
        tmp_path,
        suites={"known": known | {"folder": "benchmarks", "context": 256}},
        **{
            "stages.0.evaluate": [],
            "stages.0.gate": [{"metric": "known/winogrande/accuracy", "value": -1, **compare}],
        },
    )
    assert bloomery("check", "tiny.yaml").code == 0
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    assert said.code == 0, said.out + said.err
    found = [event for event in read_events(tmp_path / "runs/test/tiny/events.jsonl") if event["event"] == "measured"]
    values = [event["measurement"] for event in found if event["measurement"]["name"] == "known/winogrande/accuracy"]
    assert {one["who"] for one in values} == {"candidate", "control"}
    assert {one["n"] for one in values} == {8}
    assert len({one["items"]["key"] for one in values}) == 1
    assert all(len(one["interval"]) == 3 for one in values)
