"""Claims: supported, refuted, undecided and why. On a furnace without fire."""

from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.budget import Ledger
from bloomery.engine.claiming import more_evidence
from bloomery.engine.gate import judge
from bloomery.measure import Emitted, Items, Measurement
from bloomery.plan.schema import Condition
from support.furnace import Bench, below, stage


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def claim(name: str, *gate: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"id": name, "says": f"{name} is so", "source": "a seed", "gate": list(gate), **keys}


def answers(ran: Any) -> dict[str, str]:
    return {event["id"]: event["status"] for event in ran.told("claim_judged")}


def test_supported_refuted_and_undecided(bench: Bench) -> None:
    bench.write(
        stage("grow", arms={"slow": {}, "fast": {"set": {"gain": 3}}}),
        claims=[
            claim("faster", below(1, of="stage:grow@fast", relative_to="arm:slow")),
            claim("slower", below(1, of="stage:grow", relative_to="arm:fast")),
            claim("unmeasured", below(1, "grow/nothing", of="stage:grow")),
            claim("unsure", below(99, of="stage:grow", confidence="95%")),
            claim("idle", below(99, of="stage:grow"), valid_if=[below(1, of="stage:grow@fast")]),
        ],
    )
    ran = bench.launch()
    assert answers(ran) == {
        "faster": "supported",
        "slower": "refuted",
        "unmeasured": "undecided",
        "unsure": "undecided",
        "idle": "undecided",
    }
    told = {event["id"]: event for event in ran.told("claim_judged")}
    assert told["faster"]["would_need"] == ""
    assert "grow/nothing" in told["unmeasured"]["would_need"]
    assert "items" in told["unsure"]["would_need"]
    assert told["idle"]["would_need"].startswith("a case in which")
    assert ran.outcome.status == "passed", "claims decide nothing"


def test_a_ratio_to_zero_is_told_with_its_remedy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("support.furnace.loss_of", lambda value: value)
    bench.write(
        stage("grow", arms={"still": {"set": {"gain": 0}}, "fast": {}}),
        claims=[
            claim("ratio", below(1, of="stage:grow@fast", relative_to="arm:still")),
            claim("difference", below(0, of="stage:grow@fast", relative_to="arm:still", **{"as": "difference"})),
        ],
    )
    ran = bench.launch()
    assert answers(ran) == {"ratio": "undecided", "difference": "refuted"}
    told = {event["id"]: event["would_need"] for event in ran.told("claim_judged")}
    assert "its value is 0; `as: difference`" in told["ratio"]


def test_a_claim_brings_its_control_its_suite_and_its_baseline(bench: Bench) -> None:
    bench.write(
        stage("base", config={"gain": 2}),
        stage("tune", needs={"model": "base"}),
        control={"twin": "dense", "set": {"gain": 1.5}},
        baselines={"mean": {"kind": "mean"}},
        claims=[
            claim("twin", below(9, of="stage:tune", relative_to="control")),
            claim("table", below(9, of="stage:tune", relative_to="baseline:mean")),
        ],
    )
    ran = bench.launch()
    assert answers(ran) == {"twin": "supported", "table": "supported"}
    assert {(name, who) for name, who, _, _ in ran.furnace.grow.ran} == {
        (f"{name}/1", who) for name in ("base", "tune") for who in ("candidate", "control")
    }


def test_the_stage_s_last_own_attempt_counts_promoted_or_not(bench: Bench) -> None:
    bench.write(
        stage("base", config={"gain": 2}),
        stage("try", needs={"model": "base"}, config={"gain": -1}, optional=True,
              gate=[below(1, relative_to="stage:base")]),
        stage("last", "judge", needs={"model": "try"}),
        claims=[claim("better", below(1, of="stage:try", relative_to="stage:base"))],
    )  # fmt: skip
    ran = bench.launch()
    assert ran.decisions()[1] == ("try", 1, "not_promoted")
    assert answers(ran) == {"better": "refuted"}


def test_a_comparison_with_a_later_stage_and_conditions_on_two_stages(bench: Bench) -> None:
    bench.write(
        stage("one"),
        stage("two", needs={"model": "one"}),
        claims=[
            claim("falls", below(1, of="stage:one", relative_to="stage:two", op=">")),
            claim("both", below(99, of="stage:one"), below(1, of="stage:two")),
        ],
    )
    assert answers(bench.launch()) == {"falls": "supported", "both": "refuted"}


def test_a_stage_that_never_ran_leaves_its_claim_undecided(bench: Bench) -> None:
    bench.write(
        stage("one", gate=[below(0.1)]),
        stage("two"),
        claims=[claim("later", below(99, of="stage:two"))],
    )
    ran = bench.launch()
    assert answers(ran) == {"later": "undecided"}
    assert ran.told("claim_judged")[0]["would_need"] == "a run that reaches stage two"
    assert ran.outcome.exit_code == 1


def test_a_claim_about_a_loop(bench: Bench) -> None:
    bench.write(
        stage("base"),
        {"id": "loop", "repeat": 3, "needs": {"model": "base"}, "stages": [
            stage("more", needs={"model": "loop"}, gate=[below(0.6, relative_to="stage:loop")])]},
        claims=[
            claim("cycles", {"metric": "repeat/cycles", "op": ">=", "value": 2, "of": "stage:loop"}),
            claim("last-cycle", below(0.6, of="stage:more", relative_to="stage:base")),
        ],
    )  # fmt: skip
    assert answers(bench.launch()) == {"cycles": "refuted", "last-cycle": "supported"}


def test_claims_are_answered_once_however_often_the_run_is_resumed(bench: Bench) -> None:
    bench.write(stage("one"), claims=[claim("so", below(99, of="stage:one"))])
    bench.launch()
    ran = bench.launch()
    assert len(ran.told("claim_judged")) == 1


def test_what_a_claim_has_judged_is_spent_by_the_stage_that_it_judges(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a later launch reads it from the events; not by whichever stage came last."""
    spent: list[str] = []
    spend = Ledger.spend

    def spy(self: Ledger, *, stage: str = "", **amounts: float) -> None:
        spent.append(stage)
        spend(self, stage=stage, **amounts)

    monkeypatch.setattr(Ledger, "spend", spy)
    said = claim("same", below(99, of="stage:one", relative_to="stage:two"))
    bench.write(stage("one"), stage("two", needs={"model": "one"}), claims=[said])
    ran = bench.launch()
    assert [event["stage"] for event in ran.told("evaluated")] == ["one", "one"]
    assert spent[-1] == "one"


def test_how_many_items_would_decide() -> None:
    """The half-width falls with the square root of n: with the n that is named, the bound clears the value."""
    condition = Condition.model_validate({"metric": "m/loss", "op": "<", "value": 1.0, "confidence": 0.95})

    def judged(n: int) -> Any:
        values = tuple(0.95 + (0.9 if i % 2 else -0.9) for i in range(n))
        items = Items("k", values, (1.0,) * n)
        measured = Measurement("m/loss", sum(values) / n, n, items=items)
        return judge((condition,), [measured], {"m/loss": Emitted("", "lower")}).conditions[0]

    few = judged(100)
    assert few.status == "inconclusive"
    needed = int(more_evidence(few).split()[1].replace(",", ""))
    assert judged(needed + needed % 2 + 4).status == "pass"
    assert judged(int(0.9 * needed) // 2 * 2).status == "inconclusive"


def test_a_candidate_that_broke_supports_nothing_but_that_it_broke(bench: Bench) -> None:
    bench.write(
        stage("only", config={"breaks_at": 2, "steps": 6}),
        claims=[claim("good", below(60, "grow/loss", of="stage:only")),
                claim("broke", {"of": "stage:only", "metric": "train/non_finite", "op": "==", "value": 1})],
    )  # fmt: skip
    ran = bench.launch()
    assert answers(ran) == {"good": "undecided", "broke": "supported"}
