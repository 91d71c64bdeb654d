"""`through` from the command line: a real model is trained, packed by every codec, and judged as it is deployed."""

from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.events import read_events
from bloomery.stages import models
from support.command import Command, tiny_plan

CODECS = ["float", "bf16", "q8_0", "q4_0"]
PLAIN = {"kind": "perplexity", "data": "corpus:val", "context": 32}
LOOSE = {"metric": "packed/*/loss", "relative_to": "control", "op": "<=", "value": 2}


def plan(folder: Path, *gate: dict[str, Any], **more: Any) -> Path:
    changes = {
        "suites": {"text": PLAIN, "packed": {**PLAIN, "through": CODECS}},
        "stages.0.config.model": {"layers": 1, "width": 32, "heads": 2},
        "stages.0.evaluate": ["text"],
        "stages.0.gate": list(gate),
    }
    return tiny_plan(folder, **changes, **more)


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    return [event for event in read_events(folder / "runs/test/tiny/events.jsonl") if event["event"] == name]


def losses(folder: Path, who: str = "candidate") -> dict[str, float]:
    found = [event["measurement"] for event in events(folder, "measured") if "suite" in event]
    return {one["name"]: one["value"] for one in found if one["who"] == who and one["name"].endswith("/loss")}


@pytest.mark.slow
@pytest.mark.usefixtures("without_report")
def test_what_is_judged_is_what_was_packed(bloomery: Command, tmp_path: Path) -> None:
    plan(tmp_path, LOOSE)
    said = bloomery("run", "tiny.yaml", "--threads", "1")
    assert said.code == 0, said.out + said.err
    found = losses(tmp_path)
    assert list(found) == ["text/loss", *(f"packed/{name}/loss" for name in CODECS)]
    plain, unpacked, *lossy = found.values()
    assert unpacked == plain
    assert len({plain, *lossy}) == 4
    assert abs(lossy[1] - plain) < abs(lossy[2] - plain) < 0.1 * plain

    sizes = {event["codec"]: event for event in events(tmp_path, "packed") if event["who"] == "candidate"}
    assert list(sizes) == CODECS
    bits = [event["bits_per_weight"] for event in sizes.values()]
    assert bits[0] == 32
    assert 16 < bits[1] < 17
    assert bits == sorted(bits, reverse=True)
    for event in sizes.values():
        folder = tmp_path / "runs/test/tiny" / event["path"]
        assert models.load_model(folder).tally().stored == event["weights"]

    # The worst codec decides: between the losses of float and q4_0 lies a threshold that only some pass.
    worst = max(found, key=found.__getitem__)
    limit = sorted(found.values())[-2] / 2 + found[worst] / 2
    (tmp_path / "again").mkdir()
    absolute = {"metric": "packed/*/loss", "op": "<=", "value": limit}
    file = plan(tmp_path / "again", absolute)
    said = bloomery("run", file, "--threads", "1", "--runs", tmp_path / "again/runs")
    assert said.code == 1, said.out + said.err
    verdict = events(tmp_path / "again", "verdict")[0]
    assert losses(tmp_path / "again") == found
    assert {one["metric"]: one["status"] for one in verdict["conditions"]} == {
        f"packed/{name}/loss": "fail" if f"packed/{name}/loss" == worst else "pass" for name in CODECS
    }

    # Nothing is packed or judged a second time.
    before = events(tmp_path, "measured")
    assert bloomery("run", "tiny.yaml", "--threads", "1").code == 0
    assert events(tmp_path, "measured") == before


def test_a_count_table_is_refused_before_anything_runs(bloomery: Command, tmp_path: Path) -> None:
    plan(tmp_path, LOOSE | {"relative_to": "baseline:bigram"})
    for verb in ("check", "run"):
        said = bloomery(verb, "tiny.yaml")
        assert said.code == 2
        assert "the baseline 'bigram' (ngram) cannot be packed" in said.out + said.err
    assert not (tmp_path / "runs/test/tiny/events.jsonl").exists()


def test_a_codec_that_is_not_there_is_refused(bloomery: Command, tmp_path: Path) -> None:
    for name, expected in (("q4", "not offered by any installed system"), ("flaot", "did you mean 'float'?")):
        plan(tmp_path, **{"suites.text": {**PLAIN, "through": [name]}})
        said = bloomery("run", "tiny.yaml")
        assert said.code == 2
        assert expected in said.out + said.err
