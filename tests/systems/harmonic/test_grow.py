"""harmonic/grow made small: a cascade is given packets as a server gives them, and `improve` trains who has grown."""

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from test_packets import SUBJECTS
from test_specialists import write

from bloomery.cli import improving as cli
from bloomery.engine import improving
from bloomery.engine.artifact import digest_of
from bloomery.engine.events import read_events
from bloomery.plan.find import find_plan
from bloomery.plan.yaml_text import parse
from bloomery.stages.cascades import read_cascade, relevance_of
from bloomery.stages.packets import Additions, grown
from support.command import Command

SMALL: Mapping[str, Any] = {
    "layers": 1, "width": 16, "tokens": "640 tok", "packets": 3, "batch": 4, "context": 32, "ngram": 2, "documents": 3,
}  # fmt: skip
LIMITS = cli.Limits(nice=0, threads=1, memory=None, load=1e9, device="cpu")
SERVED = Path("feedback/cascade/packets")


def smaller(node: Any) -> Any:
    if isinstance(node, list):
        return [smaller(one) for one in node]
    if not isinstance(node, dict):
        return node
    return {key: SMALL.get(key, smaller(value)) for key, value in node.items()}


def small_plan(folder: Path) -> Path:
    """The shipped plan: its stages, needs and gates, with other numbers and a small library. Experts of three tokens'
    training choose no better than chance: of that gate nothing is asked."""
    write(folder / "manuals", range(6))
    plan = smaller(json.loads(json.dumps(parse(find_plan("harmonic/grow").read_text(), "grow.yaml").value)))
    plan["data"]["tokenizer"] = {"kind": "bytes"}
    split = {"train": "70%", "dev": "15%", "val": "15%"}
    plan["data"]["manuals"] = {"source": "text", "folder": "manuals", "split": split}
    for stage in (plan["stages"][1], plan["stages"][2]["stages"][0]):
        stage["config"]["experts"]["context"] = 32
        stage["gate"][-1]["value"] = 100
    file = folder / "grow.yaml"
    file.write_text(json.dumps(plan))
    return file


@dataclass
class Here:
    """A cycle in this process, for speed."""

    code: int

    def poll(self) -> int:
        return self.code

    def ask_to_save(self) -> None:
        raise AssertionError

    def wait(self) -> int:
        raise AssertionError


def improve(run: Path) -> None:
    ended = improving.improve(
        cli.improver_of(run, None, 3), lambda folder, lock: Here(cli._launched(folder, LIMITS)), cycles=1,
        stop=lambda: None, busy=lambda running: "", sleep=lambda seconds: None,
    )  # fmt: skip
    assert ended.code == 0, ended


def members(cascade: Path) -> dict[str, str]:
    return {one.name: digest_of(one) for one in (cascade / "members").iterdir()}


def trained(cycle: Path) -> float:
    said = [event["measurement"] for event in read_events(cycle / "events.jsonl") if event["event"] == "measured"]
    return next(one["value"] for one in said if one["name"] == "packets/trained")


def test_improve_trains_the_experts_whose_packets_grew_while_they_were_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bloomery.report.page.write_report", lambda folder: folder / "report.html")
    said = Command(monkeypatch, capsys)("run", small_plan(tmp_path), "--threads", "1", "--device", "cpu")
    assert said.code == 0, said.err
    run = tmp_path / "runs/harmonic/grow"
    (served,) = run.glob("cascade/1/*/model")
    (ended,) = (event for event in read_events(run / "events.jsonl") if event["event"] == "loop_ended")
    assert ended["cycles"] == 0, "nothing has come"

    declared = read_cascade(served)
    draw = random.Random("news")
    with Additions(SERVED, declared.card, relevance_of(declared)) as shelf:
        for number in range(4):
            shelf.add(f"news {number}", " ".join(draw.choice(SUBJECTS["sea"]) for _ in range(40)))
    who = grown(relevance_of(declared), SERVED)
    assert len(who) == 1
    improve(run)
    record = improving.read_record(run.with_name("grow-improve"))
    assert record.promoted == 1
    assert trained(record.folder / "1") == 1
    (newer,) = (record.folder / "1").glob("grow-1-learn/1/*/model")
    before, after = members(served), members(newer)
    assert {name for name in before if before[name] != after[name]} == set(who)
    assert grown(relevance_of(read_cascade(newer)), SERVED) == (), "what was learned is no news"


def test_a_part_that_is_not_there_is_refused_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = small_plan(tmp_path)
    plan = json.loads(file.read_text())
    first, learn = (stage["config"] for stage in (plan["stages"][1], plan["stages"][2]["stages"][0]))
    first["experts"]["data"] = "manual"
    learn["experts"]["added"] = "nwes"
    learn["facts"] = "news:val"
    file.write_text(json.dumps(plan, indent=1))
    checked = Command(monkeypatch, capsys)("check", file)
    assert checked.code == 2
    for said in (
        "config.experts.data: no data set 'manual'", "did you mean 'manuals'", "did you mean 'news'",
        "config.experts.added: no data set 'nwes'", "config.facts: 'news' has no split 'val'",
    ):  # fmt: skip
        assert said in checked.err
