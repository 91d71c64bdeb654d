"""Facts go to the specialists where a model knows less than it concludes, and the whole is scored again (seed 8.3)."""

import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.data.prepared import Prepared
from bloomery.evaluate.cascade.routing import FACT, OTHER, Relevance, packets_of, route, words_of
from bloomery.evaluate.gauntlet.item import Item
from bloomery.evaluate.gauntlet.source import items_of
from bloomery.stages.gauntlet import _chosen, judged
from bloomery.systems.harmonic.cascade import asked_of
from support.cascades import card
from support.command import Command, tiny_plan

FORGE = {"model": {}, "reader": {"packets": ["x"]}}


def test_a_model_without_facts_is_scored_again_with_who_knows_them(asked_data: Prepared) -> None:
    """Two who know all answers of some categories and say nothing in the others, routed by the prompts of train."""
    asked, others = asked_of(asked_data, "skills:train")
    own = Relevance.of({"reader": packets_of(asked)})
    routed = Relevance.of(own.packets, Relevance.of({FACT: packets_of(asked), OTHER: packets_of(others)}))
    items = _chosen(items_of(asked_data.part("skills:test"), asked_data.tokenizer), None)
    made = card(FORGE, routing="idf")

    def scores(relevance: Relevance) -> dict[str, float]:
        def answer(item: Item) -> str:
            first = route(made, relevance, words_of(item.prompt), {})[0]
            return item.reference if (first == "reader") == (item.category == "factual") else ""

        found = judged(items, {}, answer, "x").measurements
        return {one.name: one.value for one in found if one.who == "candidate"}

    before, after = scores(own), scores(routed)
    assert before["factual/accuracy"] == 0
    assert before["factual/behind_reasoning"] == 1
    assert after["factual/accuracy"] == 1
    assert after["factual/behind_reasoning"] == 0
    assert after["all/accuracy"] > before["all/accuracy"]
    assert sum(after[f"{one}/accuracy"] for one in items) >= len(items) - 0.5, "few others are taken for facts"


SHAPE = {"layers": 1, "width": 48, "heads": 2, "basis": "sine", "compression": 2}
BEHIND = {"metric": "gauntlet/factual/behind_reasoning", "relative_to": "control", "as": "difference"}
SPLIT = {"split_by": "tuple", "split": {"train": "80%", "val": "10%", "test": "10%"}}


def plan(folder: Path, rival_rate: float) -> Path:
    """The model learns to reason and hears no fact; its rival learns from the same as much as its rate lets it."""
    base: dict[str, Any] = {
        "batch": 8, "context": 96, "packing": "documents", "precision": "fp32", "model": SHAPE, "data": "logic",
        "tokens": 40_000, "optimizer": {"lr": 0.03}, "validation": {"split": "val", "documents": 4},
    }  # fmt: skip
    return tiny_plan(
        folder,
        system="harmonic", baselines={}, data={
            "tokenizer": {"kind": "bpe", "vocab": 300, "fit_on": "skills:train"},
            "skills": {"source": "gauntlet", "examples": 600, "shares": {"factual": 0.5, "reasoning": 0.5}, **SPLIT},
            "logic": {"source": "gauntlet", "examples": 600, "shares": {"reasoning": 1.0}, **SPLIT},
            "facts": {"source": "gauntlet", "examples": 600, "shares": {"factual": 1.0}, **SPLIT},
        },
        suites={"gauntlet": {"kind": "gauntlet", "data": "skills:test", "items": 8}},
        stages=[
            {"id": "base", "kind": "pretrain", "config": base},
            {"id": "rival", "kind": "pretrain", "config": {**base, "optimizer": {"lr": rival_rate}}},
            {"id": "answer", "kind": "harmonic/cascade", "needs": {"model": "base", "fallback": "base"},
             "config": {"experts": {"packets": 2, "data": "facts", "tokens": 4_000, "batch": 8, "context": 96},
                        "last": {"ngram": 2}, "feedback": None, "confidence": 0},
             "control": {"needs": {"model": "rival", "fallback": "rival"}},
             "gate": [{**BEHIND, "op": "<=", "value": 0.04}],
             "on_fail": [
                {"name": "knowledge route", "when": [{**BEHIND, "op": ">", "value": 0.04}], "set": {"facts": "skills"},
                 "because": "compressed models lose rare facts first (seed 8.3)"},
                {"name": "still behind", "then": "go_on", "because": "the score is told either way"}]},
        ],
    )  # fmt: skip


@pytest.fixture
def bloomery(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def told(folder: Path, name: str) -> list[dict[str, Any]]:
    (file,) = (folder / "runs").rglob("events.jsonl")
    events = [json.loads(line) for line in file.read_text().splitlines()]
    return [event for event in events if event["event"] == name]


def gaps(folder: Path) -> list[float]:
    """factual/behind_reasoning of the cascade, as often as it was scored."""
    told_of = [event["measurement"] for event in told(folder, "measured") if event["stage"] == "answer"]
    return [one["value"] for one in told_of if (one["name"], one["who"]) == (BEHIND["metric"], "candidate")]


def knows_facts(folder: Path, attempt: int) -> bool:
    """Whether the cascade of an attempt tells prompts that ask for facts from others."""
    (file,) = (folder / "runs").glob(f"test/tiny/answer/{attempt}/candidate-seed0/model/cascade.json")
    return "facts" in json.loads(file.read_text())


@pytest.mark.slow
@pytest.mark.parametrize("behind", [True, False])
def test_the_route_is_taken_where_facts_fall_behind_and_only_there(
    bloomery: Command, tmp_path: Path, behind: bool
) -> None:
    said = bloomery("run", plan(tmp_path, 1e-9 if behind else 0.03), "--threads", "1")
    decided = [event for event in told(tmp_path, "decision") if event["stage"] == "answer"]
    taken = [event.get("rule") for event in decided]
    if behind:
        assert taken == ["knowledge route", "still behind"], said.out[-3000:]
        assert gaps(tmp_path)[0] > 0.04
        assert len(gaps(tmp_path)) == 2, "the whole is scored again"
        assert [knows_facts(tmp_path, attempt) for attempt in (1, 2)] == [False, True]
    else:
        assert said.code == 0, said.err
        assert not any(taken)
        assert not knows_facts(tmp_path, 1)
