"""harmonic/claims: what it needs and names, and all of it run through as a smaller plan."""

import json
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.discover import catalogue
from bloomery.plan import cast
from bloomery.plan.check import check
from bloomery.plan.find import find_plan
from bloomery.plan.ledger import ledger
from bloomery.plan.load import load, resolve
from bloomery.plan.yaml_text import parse
from bloomery.stages.settings import architecture
from support.command import finished, process, write_text

LEVELS = {"l2": "l1", "l1xl2": "l2", "l3": "l2", "l4": "l3", "l5": "l4"}
LEVEL_2 = ("depth", "after", "first", "before", "instead")
"""Stages whose model is of level 2."""
BELOW = {**LEVELS, **dict.fromkeys(LEVEL_2, "l1")}
SMALL = {"layers": 1, "width": 32, "heads": 2}


def test_it_checks_clean_and_no_level_comes_before_the_one_below_has_passed() -> None:
    loaded = load(find_plan("harmonic/claims"))
    report = check(loaded, catalogue)
    assert (report.problems, report.warnings) == ((), ())
    plan = resolve(loaded)
    for stage in plan.stages:
        assert stage.needs.get("validated", "").removesuffix(".passed") == BELOW.get(stage.id, "")
        assert stage.optional is (stage.id in BELOW)
    for level in ("l1", "l2", "l3", "l4"):
        rivals = {condition.relative_to for condition in plan.stage(level).gate}
        assert {"baseline:frozen", "baseline:bigram"} <= rivals
    named = [row for claim in plan.claims for row in claim.rows]
    assert len(named) == len(set(named))
    assert set(named) <= set(ledger().by_id())


@pytest.mark.parametrize("name", ["harmonic/claims", "harmonic/claims-core"])
def test_no_level_is_supported_but_against_the_narrow_dense_model_too(name: str) -> None:
    """Spec 4.2: (a) frozen random, (c) a narrow dense model of equal total parameters. Gates ask for (a) and (b)."""
    plan = resolve(load(find_plan(name)))
    rivals: dict[str, set[str]] = {}
    for claim in plan.claims:
        if claim.id in ("l1-33x", "l2-shared", "l3-87x", "l4"):
            (stage,) = {condition.of for condition in claim.gate}
            rivals[str(stage)] = {str(condition.relative_to) for condition in claim.gate}
    assert {stage.partition("@")[0] for stage in rivals} == {"stage:l1", "stage:l2", "stage:l3", "stage:l4"}
    for against in rivals.values():
        assert {"baseline:frozen", "control"} <= against
    assert plan.control is not None
    assert (plan.control.twin, plan.control.match) == ("dense", "stored")


@pytest.mark.parametrize("name", ["harmonic/claims", "harmonic/claims-core", "harmonic/bases"])
def test_no_arm_is_trained_and_then_not_judged(name: str) -> None:
    plan = resolve(load(find_plan(name)))
    trained = [(stage, who) for stage in plan.stages for who in cast.arms(stage) if who.startswith(cast.ARM)]
    unjudged = [
        (stage.id, who)
        for stage, who in trained
        if "text" not in cast.suites(plan, stage, who, candidate=who == cast.arms(stage)[0])
    ]
    assert unjudged == []


def test_the_rest_runs_level_2_after_level_1_has_passed() -> None:
    loaded = load(find_plan("harmonic/claims-rest"))
    report = check(loaded, catalogue)
    assert (report.problems, report.warnings) == ((), ())
    needs = {stage.id: stage.needs.get("validated") for stage in resolve(loaded).stages}
    assert {name for name, below in needs.items() if below == "l1.passed"} == {*LEVEL_2, "sixty", "l1xl2"}


def test_its_arms_store_what_the_seed_says_and_as_many_as_each_other() -> None:
    """69x of level 2, 87x of level 3, in the linears; 202K that stand for 10.1M; rivals within 2 %."""
    plan = resolve(load(find_plan("harmonic/claims")))

    def tally(stage: str, **changes: Any) -> Any:
        return architecture({**plan.stage(stage).config["model"], "system": "harmonic", **changes}).tally(257)

    for stage, times in (("l2", 69), ("l3", 87)):
        one = tally(stage)
        dense = one.groups["embedding"].stored + one.groups["norm"].stored
        assert (one.dense_equivalent - dense) / (one.stored - dense) == pytest.approx(times, rel=0.03)
    small = tally("depth")
    assert (small.stored, small.dense_equivalent) == (pytest.approx(202e3, rel=0.02), pytest.approx(10.1e6, rel=0.01))
    for stage, rival in (("l3", "level_2"), ("l4", "level_3")):
        other = architecture({"system": "harmonic", **plan.stage(stage).arms[rival].set["model"]}).tally(257)
        assert other.stored == pytest.approx(tally(stage).stored, rel=0.02)


def smaller(tmp_path: Path) -> dict[str, Any]:
    """One seed, one layer of 32 features, twelve steps, no sweep; gates and needs stay."""
    plan: Any = json.loads(json.dumps(parse(find_plan("harmonic/claims").read_text(), "claims.yaml").value))
    write_text(tmp_path / "text")
    split = {"train": "60%", "dev": "20%", "val": "20%"}
    plan |= {"seeds": [0]}
    plan["data"]["corpus"] = {"source": "text", "folder": "text", "split": split}
    plan["data"]["skills"]["examples"] = 200
    for suite in plan["suites"].values():
        suite["items"] = 1
    compressed = {"l1": 4, "hybrid": 4, "attention": 4}
    for stage in plan["stages"]:
        stage.pop("sweep", None), stage.pop("select", None)
        config, name = stage["config"], stage["id"]
        short = {"tokens": "1536 tok" if name != "l5" else 128, "batch": 4, "context": 32}
        learns = config.get("recover", config)
        if learns.get("data") == "skills":  # whose prompts are not learned from: rows long enough for an answer
            short |= {"context": 96}
        learns |= short
        looks = learns["validation"]
        looks |= {"every": "100%", "documents": 1}
        config["precision"] = "fp32"
        if "model" in config:
            config["model"] |= SMALL | ({"compression": compressed[name]} if name in compressed else {})
            config["model"].pop("feed_forward", None)
            if "depth_harmonics" in config["model"]:
                config["model"]["depth_harmonics"] = 1
        if "meta_components" in config:
            config["meta_components"] = 4
        for arm in stage.get("arms", {}).values():
            changed = arm.get("set", {})
            if "model" in changed:
                changed["model"] |= SMALL
                changed["model"].pop("feed_forward", None)
            if "tokens" in changed:
                changed["tokens"] = "1536 tok"
            if "model.layers" in changed:
                changed["model.layers"] = 2
    return plan


@pytest.mark.slow
def test_all_of_it_runs_as_a_smaller_plan(tmp_path: Path) -> None:
    plan = smaller(tmp_path)
    (tmp_path / "small.yaml").write_text(json.dumps(plan))
    said = finished(process(["run", "small.yaml", "--threads", "1", "--force"], tmp_path))
    folder = tmp_path / "runs/harmonic/claims"
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    verdicts = {event["stage"]: event["status"] for event in events if event["event"] == "verdict"}
    assert set(verdicts) == {stage["id"] for stage in plan["stages"]}, said.out + said.err
    assert said.code in (0, 1)
    forced = {event["text"].split()[2] for event in events if event["event"] == "note" and "--force" in event["text"]}
    assert forced == {level for level, below in BELOW.items() if verdicts[below] != "pass"}
    claims = {event["id"]: event["status"] for event in events if event["event"] == "claim_judged"}
    assert set(claims) == {claim["id"] for claim in plan["claims"]}
    report = (folder / "report.md").read_text()
    for level in forced:
        assert f"forced: stage {level}" in report
