"""Calibration, contamination and the system decide gates like any other metric; what was not measured fails closed."""

from pathlib import Path

import pytest

from bloomery.engine.events import read_events
from bloomery.evaluate import energy
from support.command import Command, tiny_plan

SUITES = {
    "text": {"kind": "perplexity", "data": "corpus:val", "context": 32},
    "confidence": {"kind": "calibration", "data": "corpus:val", "bins": 15},
    "clean": {"kind": "contamination", "data": "corpus:val"},
    "system": {"kind": "system", "processes": 2, "repeats": 1, "prompt": 8, "tokens": 4},
}
GATE = [
    {"metric": "confidence/ece", "op": "<=", "value": 0.9, "confidence": "95%"},
    {"metric": "confidence/scaled/nll", "relative_to": "control", "op": "<=", "value": 2},
    {"metric": "clean/words/item_share", "op": "<=", "value": 0.9, "confidence": "60%"},
    {"metric": "clean/words/ngram_share", "op": "<=", "value": "100%"},
    {"metric": "system/peak_memory_bytes", "op": "<=", "value": "8 GiB"},
    {"metric": "system/decode_tokens_per_second", "op": ">=", "value": 1},
    {"metric": "system/joules_per_token", "op": "<=", "value": 1e9},
]


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_all_of_them_are_judged(bloomery: Command, tmp_path: Path) -> None:
    tiny_plan(tmp_path, suites=SUITES, **{"stages.0.gate": GATE, "stages.0.evaluate": [], "baselines": {}})
    checked = bloomery("check", "tiny.yaml", "--json")
    assert checked.code == 0, checked.err
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    (verdict,) = (one for one in read_events(Path("runs/test/tiny/events.jsonl")) if one["event"] == "verdict")
    counts = energy.meter("cpu") is not None
    expected = dict.fromkeys((one["metric"] for one in GATE), "pass")
    expected["system/joules_per_token"] = "pass" if counts else "missing"
    assert {one["metric"]: one["status"] for one in verdict["conditions"]} == expected
    assert said.code == (0 if counts else 1)
    for one in verdict["conditions"]:
        assert one["status"] == "missing" or one["interval"] is not None or one["n"] == 1, one["metric"]
