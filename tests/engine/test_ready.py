"""What a suite needs and does not find is said before anything is trained, and nothing is written."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from bloomery.errors import DataError, MissingExtra
from bloomery.plan.check import check
from bloomery.plan.load import load
from bloomery.stages.builtin import Builtin, BuiltinSettings
from bloomery.stages.lmeval import METRICS, LmEval, LmEvalSettings
from support.furnace import Bench, Furnace, Size, below, stage


@dataclass
class Wanting(Size):
    """The suite `size`, with an extra that may be missing."""

    lacks: bool = True

    def ready(self, config: BaseModel) -> None:
        if self.lacks:
            raise MissingExtra("rulers", "is not installed", "rulers 3", "pip install 'bloomery[rulers]'")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def test_a_run_does_not_begin(bench: Bench) -> None:
    file = bench.write(stage("only", gate=[below(99)]))
    furnace = Furnace(size=Wanting())
    with pytest.raises(MissingExtra) as said:
        bench.launch(furnace=furnace)
    assert str(said.value).startswith(str(file))
    assert all(part in str(said.value) for part in ("suites.size", "rulers", "pip install"))
    assert furnace.grow.ran == []
    assert not bench.runs.exists()
    assert bench.launch(furnace=Furnace(size=Wanting(lacks=False))).outcome.status == "passed"


def test_check_warns_since_the_plan_itself_is_right(bench: Bench) -> None:
    file = bench.write(stage("only", gate=[below(99)]))
    found = check(load(file), Furnace(size=Wanting()))  # type: ignore[arg-type]
    assert found.problems == ()
    assert ["rulers: is not installed" in str(note) and "pip install" in str(note) for note in found.warnings] == [True]


def test_what_is_only_reported_is_left_out_and_told(bench: Bench) -> None:
    claim = {"id": "small", "source": "here", "says": "it is small", "gate": [below(9) | {"of": "stage:only"}]}
    file = bench.write(stage("only", gate=[below(99, "grow/loss")], evaluate=["size"]), claims=[claim])
    found = check(load(file), Furnace(size=Wanting()))  # type: ignore[arg-type]
    assert ["leaves it out" in str(note) for note in found.warnings if "rulers" in str(note)] == [True]
    ran = bench.launch(furnace=Furnace(size=Wanting()))
    assert ran.outcome.status == "passed"
    assert [note["text"] for note in ran.told("note") if "size" in note["text"]] == [
        "suite size is left out: rulers: is not installed, rulers 3 wanted (pip install 'bloomery[rulers]')"
    ]
    assert [answer["status"] for answer in ran.told("claim_judged")] == ["undecided"]
    again = bench.launch(furnace=Furnace(size=Wanting(lacks=False)))
    assert any(name.startswith("size/") for name in (one["measurement"]["name"] for one in again.told("measured")))
    assert [answer["status"] for answer in again.told("claim_judged")][-1] != "undecided"


@pytest.mark.parametrize("asked", ["gate", "rule"])
def test_it_decides_where_a_condition_asks_for_it(bench: Bench, asked: str) -> None:
    condition, own = below(9), [below(99, "grow/loss")]
    rule = {"name": "r", "because": "big", "when": [condition], "set": {"gain": 2}}
    keys = {"gate": {"gate": [condition]}, "rule": {"on_fail": [rule]}}
    bench.write(stage("only", **({"gate": own} | keys[asked])))
    with pytest.raises(MissingExtra):
        bench.launch(furnace=Furnace(size=Wanting()))


def test_builtin_needs_its_files(tmp_path: Path) -> None:
    file = tmp_path / "choice.jsonl"
    settings = BuiltinSettings(tasks=("choice",), files={"choice": str(file)})
    with pytest.raises(DataError, match="does not exist"):
        Builtin().ready(settings)
    file.write_text("")
    Builtin().ready(settings)
    Builtin().ready(BuiltinSettings(tasks=("choice",)))


def test_lmeval_needs_the_files_of_every_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bloomery.evaluate.lmeval_extra.check_version", lambda: None)
    for task in (*METRICS, "mmlu_anatomy"):
        with pytest.raises(DataError, match="BLOOMERY_DATA"):
            LmEval().ready(LmEvalSettings(tasks=(task,), folder=str(tmp_path)))
    LmEval().ready(LmEvalSettings(tasks=("mmlu",), hub=True))
