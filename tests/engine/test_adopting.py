"""Inputs from files, from earlier runs and from the hub, as a run holds them."""

import shutil
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.artifact import digest_of
from bloomery.errors import ArtifactError, DataError, MissingExtra
from support.furnace import Bench, grown, stage, write_value

TAKES = stage("next", needs={"model": "inputs.base"})


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def plan(bench: Bench, source: dict[str, Any]) -> None:
    bench.write(TAKES, inputs={"base": source}, name="test/next")


def test_an_output_of_an_earlier_run_is_its_last_finished_attempt(bench: Bench) -> None:
    rule = {"name": "more", "set": {"steps": 5}, "because": "longer"}
    gate = [{"metric": "grow/loss", "op": "<", "value": 9}]
    bench.write(stage("first", gate=gate, on_fail=[rule]), seeds=[4, 1], name="test/first")
    bench.launch()
    plan(bench, {"run": "test/first:first"})
    ran = bench.launch()
    assert ran.value("next") == grown(1, 0, 3, start=grown(1, 4, 5)), "the last attempt, the first seed"


def test_an_arm_and_the_one_that_was_chosen(bench: Bench) -> None:
    bench.write(
        stage("first", arms={"a": {}, "b": {"set": {"gain": 3}}}, candidate="best", select={"lowest": "grow/loss"}),
        name="test/first",
    )
    bench.launch()
    for text, gain in (("test/first:first", 3), ("test/first:first@a", 1), ("test/first:first@a.model", 1)):
        plan(bench, {"run": text})
        assert bench.launch().value("next", attempt=1 if gain == 3 else 2) == grown(1, 0, 3, start=grown(gain, 0, 3))


def test_what_was_adopted_stays_though_the_run_goes_away(bench: Bench) -> None:
    bench.write(stage("first"), name="test/first")
    bench.launch()
    plan(bench, {"run": "test/first:first"})
    bench.launch()
    shutil.rmtree(bench.runs / "test/first")
    ran = bench.launch()
    assert ran.outcome.status == "passed"
    assert ran.furnace.grow.ran == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("test/frist:first", "did you mean 'test/first'?"),
        ("test/first:fist", "did you mean 'first'?"),
        ("test/first:first.labels", "no finished 'labels'"),
        ("test/first", "RUN:STAGE"),
    ],
)
def test_a_run_that_is_not_there_is_one_clear_error(bench: Bench, text: str, said: str) -> None:
    bench.write(stage("first"), name="test/first")
    bench.launch()
    plan(bench, {"run": text})
    with pytest.raises(ArtifactError) as caught:
        bench.launch()
    assert said in str(caught.value)
    assert not (bench.runs / "test/next/events.jsonl").exists()


def test_a_model_of_the_hub_is_fetched_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cache, asked = write_value(tmp_path / "cache", 7.0), []
    module = types.ModuleType("huggingface_hub")

    def snapshot_download(repository: str, revision: str | None) -> str:
        asked.append((repository, revision))
        return str(cache)

    module.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    plan(bench, {"hub": "owner/name@abc", "digest": digest_of(cache)})
    assert bench.launch().value("next") == grown(1, 0, 3, start=7.0)
    bench.launch()
    assert asked == [("owner/name", "abc")]


def test_the_hub_refuses_or_is_not_installed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(bench, {"hub": "owner/name"})
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match="bloomery\\[hub\\]"):
        bench.launch()
    module = types.ModuleType("huggingface_hub")

    def refuse(repository: str, revision: str | None) -> str:
        raise PermissionError("401")

    module.snapshot_download = refuse  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    with pytest.raises(DataError, match="401"):
        bench.launch()
