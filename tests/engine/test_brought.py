"""Rivals that a suite brings itself: the candidate is held against those beside it, whoever else is judged."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import BaseModel

from bloomery.engine.artifact import Artifact
from bloomery.engine.stage import SuiteResult
from bloomery.measure import Measurement
from bloomery.plan.check import check
from bloomery.plan.load import load
from support.furnace import Bench, Furnace, Size, below, grown, loss_of, stage, value_in


@dataclass
class Doubling(Size):
    """The suite `size`, with a rival whose loss is twice that of whatever is judged."""

    def brings(self, config: BaseModel) -> tuple[str, ...]:
        return ("double",)

    def run(self, config: BaseModel, model: Artifact, data: Path | None, *, device: str, threads: int) -> SuiteResult:
        own = super().run(config, model, data, device=device, threads=threads)
        rival = Measurement("loss", 2 * loss_of(value_in(model.path)), 5, who="baseline:double")
        return SuiteResult((rival, *own.measurements), own.samples)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def furnace() -> Furnace:
    return Furnace(size=Doubling())


GATE = [below(0.6, relative_to="baseline:double"), below(9, relative_to="control")]


def test_the_rival_is_the_one_beside_the_candidate(bench: Bench) -> None:
    """The control is another model, so the suite measures another value of the rival beside it."""
    control = {"set": {"gain": 1}}
    bench.write(stage("only", config={"gain": 2, "steps": 4}, gate=GATE, control=control), seeds=[0, 1])
    ran = bench.launch(furnace=furnace())
    first, second = ran.told("verdict")[0]["conditions"]
    assert (first["status"], first["value"]) == ("pass", pytest.approx(0.5))
    assert second["status"] == "pass"
    own = [loss_of(grown(2, seed, 4)) for seed in (0, 1)]
    rivals = [
        event["measurement"]["value"]
        for event in ran.told("measured")
        if event["measurement"]["who"] == "baseline:double" and event["who"] == "candidate"
    ]
    assert rivals == pytest.approx([2 * loss for loss in own])
    assert len(set(ran.furnace.size.judged)) == 4  # the control's losses differ


def test_a_wildcard_finds_the_fitted_and_the_brought(bench: Bench) -> None:
    gate = [below(99, relative_to="baseline:*")]
    bench.write(stage("only", gate=gate), baselines={"mean": {"kind": "mean"}})
    conditions = bench.launch(furnace=furnace()).told("verdict")[0]["conditions"]
    assert [one["relative_to"] for one in conditions] == ["baseline:double", "baseline:mean"]
    assert all(one["status"] == "pass" for one in conditions)


def test_it_is_remembered_and_not_measured_again(bench: Bench) -> None:
    bench.write(stage("only", gate=GATE[:1]), stage("next", kind="judge", needs={"model": "only"}, gate=GATE[:1]))
    first = bench.launch(furnace=furnace())
    assert first.outcome.status == "passed"
    assert len(first.furnace.size.judged) == 1  # one artifact, judged once for both stages
    again = bench.launch(furnace=furnace())
    assert again.outcome.status == "passed"
    assert again.furnace.size.judged == []


def test_two_baselines_that_are_one_artifact_are_no_rivals_of_the_suite(bench: Bench) -> None:
    """What is remembered of one is told of the other as its own."""
    gate = [below(99, relative_to="baseline:one"), below(99, relative_to="baseline:two")]
    bench.write(stage("only", gate=gate), baselines={name: {"kind": "mean"} for name in ("one", "two")})
    ran = bench.launch(furnace=furnace())
    one, two = ran.told("verdict")[0]["conditions"]
    assert one["status"] == two["status"] == "pass"
    assert one["value"] == two["value"]


@pytest.mark.parametrize(
    ("rival", "baselines", "found"),
    [
        ("double", [], ""),
        ("*", [], ""),
        ("triple", [], "no baseline 'triple'"),
        ("double", ["double"], "two baselines"),
    ],
)
def test_check_knows_what_a_suite_brings(bench: Bench, rival: str, baselines: list[str], found: str) -> None:
    gate = [below(1, relative_to=f"baseline:{rival}")]
    file = bench.write(stage("only", gate=gate), baselines={name: {"kind": "mean"} for name in baselines})
    problems = [one.found for one in check(load(file), furnace()).problems]  # type: ignore[arg-type]
    assert len(problems) == bool(found)
    assert all(one.startswith(found) for one in problems)
    if not baselines:  # the plain suite brings nothing
        assert len(check(load(file), Furnace()).problems) == 1  # type: ignore[arg-type]
