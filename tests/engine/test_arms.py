"""Arms, sweeps, the best of several, and a stage's own control, on a furnace without fire."""

from pathlib import Path
from typing import Any

import pytest

from support.furnace import Bench, below, grown, loss_of, stage

SELECT = {"lowest": "grow/loss"}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def arm(**settings: Any) -> dict[str, Any]:
    return {"set": settings}


# Arms


def test_every_arm_runs_and_the_first_is_judged_and_handed_on(bench: Bench) -> None:
    bench.write(
        stage("split", arms={"slow": {}, "fast": arm(gain=3)}, gate=[below(1.5, relative_to="arm:fast")]),
        stage("next", needs={"model": "split"}),
        stage("other", needs={"model": "split@fast"}, config={"steps": 1}),
        seeds=[0, 1],
    )
    ran = bench.launch()
    assert {(who, seed) for name, who, seed, _ in ran.furnace.grow.ran if name == "split/1"} == {
        (who, seed) for who in ("arm:slow", "arm:fast") for seed in (0, 1)
    }
    ratios = [loss_of(grown(1, seed, 3)) / loss_of(grown(3, seed, 3)) for seed in (0, 1)]
    condition = ran.told("verdict")[0]["conditions"][0]
    assert condition["value"] == pytest.approx(sum(ratios) / 2)
    assert ran.verdicts()[0] == ("split", 1, "fail")
    assert ran.outcome.exit_code == 1


def test_what_an_arm_hands_on_and_what_the_candidate_does(bench: Bench) -> None:
    bench.write(
        stage("split", arms={"slow": {}, "fast": arm(gain=3)}, candidate="fast"),
        stage("next", needs={"model": "split"}),
        stage("other", needs={"model": "split@slow"}, config={"steps": 1}),
    )
    ran = bench.launch()
    assert ran.value("next") == grown(1, 0, 3, start=grown(3, 0, 3))
    assert ran.value("other") == grown(1, 0, 1, start=grown(1, 0, 3))
    assert ran.told("candidate_chosen")[0]["candidate"] == "arm:fast"


def test_an_arm_may_have_other_inputs(bench: Bench) -> None:
    bench.write(
        stage("one"),
        stage("two", config={"gain": 5}),
        stage("split", needs={"model": "one"}, arms={"a": {}, "b": {"needs": {"model": "two"}}}),
    )
    ran = bench.launch()
    assert ran.value("split", who="arm:a") == grown(1, 0, 3, start=grown(1, 0, 3))
    assert ran.value("split", who="arm:b") == grown(1, 0, 3, start=grown(5, 0, 3))


def test_a_stage_that_trains_nothing_hands_on_the_model_of_its_candidate(bench: Bench) -> None:
    bench.write(
        stage("one"),
        stage("two", config={"gain": 5}),
        stage("pick", "judge", needs={"model": "one"}, arms={"a": {}, "b": {"needs": {"model": "two"}}},
              candidate="b", gate=[below(99)]),
        stage("next", needs={"model": "pick"}),
    )  # fmt: skip
    ran = bench.launch()
    judged = next(event for event in ran.told("verdict") if event["stage"] == "pick")
    assert judged["conditions"][0]["value"] == loss_of(grown(5, 0, 3))
    assert ran.value("next") == grown(1, 0, 3, start=grown(5, 0, 3))


def test_going_on_without_a_candidate_hands_nothing_on(bench: Bench) -> None:
    """What came in is not its own result."""
    rule = {"name": "anyway", "then": "go_on", "because": "to see"}
    bench.write(
        stage("one"),
        stage("split", needs={"model": "one"}, arms={"a": arm(breaks_at=1), "b": {}}, on_fail=[rule]),
        stage("next", needs={"model": "split"}),
        stage("other", needs={"model": "split@b"}),
    )
    ran = bench.launch()
    assert [event["stage"] for event in ran.told("stage_skipped")] == ["next", "other"]


def test_every_other_arm_is_compared_and_never_the_candidate_with_itself(bench: Bench) -> None:
    arms = {"a": arm(gain=4), "b": arm(gain=2), "c": arm(gain=3)}
    bench.write(stage("split", arms=arms, gate=[below(0.99, relative_to="arm:*")]))
    conditions = bench.launch().told("verdict")[0]["conditions"]
    assert [one["relative_to"] for one in conditions] == ["arm:b", "arm:c"]
    assert all(one["status"] == "pass" for one in conditions)


def test_a_condition_may_speak_of_every_arm(bench: Bench) -> None:
    bench.write(stage("split", arms={"a": arm(gain=4), "b": arm(gain=0.1)}, gate=[below(50, of="arm:*")]))
    ran = bench.launch()
    by_arm = {one["of"]: one["status"] for one in ran.told("verdict")[0]["conditions"]}
    assert by_arm == {"arm:a": "pass", "arm:b": "fail"}


def test_an_arm_that_breaks_is_missing_and_does_not_end_the_stage(bench: Bench) -> None:
    arms = {"a": {}, "b": arm(breaks_at=1), "c": {}}
    bench.write(stage("split", arms=arms, gate=[below(1.01, relative_to="arm:*")]))
    ran = bench.launch()
    assert {one["relative_to"]: one["status"] for one in ran.told("verdict")[0]["conditions"]} == {
        "arm:b": "missing",
        "arm:c": "pass",
    }
    assert ran.verdicts() == [("split", 1, "missing")]


def test_the_looks_of_an_arm_before_it_broke_are_no_result_of_it(bench: Bench) -> None:
    """Else the candidate would be better than an arm that was not done."""
    arms = {"a": {}, "b": arm(breaks_at=2, gain=9)}
    metrics = ("grow/loss", "grow/loss/min", "grow/loss/tokens_to_reference")
    bench.write(
        stage("split", config={"steps": 9}, arms=arms,
              gate=[*(below(99, metric, relative_to="arm:b") for metric in metrics),
                    {"metric": "train/non_finite", "of": "arm:b", "op": "==", "value": 1}])
    )  # fmt: skip
    conditions = bench.launch().told("verdict")[0]["conditions"]
    assert [one["status"] for one in conditions] == ["missing", "missing", "missing", "pass"]
    assert "arm:b broke" in conditions[0]["note"]


def test_a_candidate_that_breaks_ends_the_attempt(bench: Bench) -> None:
    rule = {"name": "softer", "when": [{"metric": "train/non_finite", "op": ">", "value": 0}],
            "set": {"steps": 1}, "because": "fewer steps"}  # fmt: skip
    bench.write(stage("split", arms={"a": arm(breaks_at=1), "b": {}}, on_fail=[rule]))
    ran = bench.launch()
    assert ran.verdicts() == [("split", 1, "fail"), ("split", 2, "pass")]


def test_suites_judge_the_candidate_and_only_the_arms_that_are_named(bench: Bench) -> None:
    arms = {"a": arm(gain=1), "b": arm(gain=2), "c": arm(gain=3)}
    bench.write(stage("split", arms=arms, gate=[below(9, relative_to="arm:b")]))
    assert sorted(bench.launch().furnace.size.judged) == sorted([grown(1, 0, 3), grown(2, 0, 3)])


# Sweeps


def swept(*gains: float, **keys: Any) -> dict[str, Any]:
    return stage("tune", sweep={"gain": list(gains)}, select=SELECT, **keys)


def test_the_best_value_is_found_on_the_first_seed_and_serves_all(bench: Bench) -> None:
    bench.write(swept(1, 4, 2), seeds=[3, 8])
    ran = bench.launch()
    chosen = ran.told("sweep_chosen")[0]
    assert chosen["chosen"] == {"gain": 4}
    assert chosen["values"] == [pytest.approx(loss_of(grown(gain, 3, 3))) for gain in (1, 4, 2)]
    assert [ran.value("tune", seed=seed) for seed in (3, 8)] == [grown(4, seed, 3) for seed in (3, 8)]
    trained = [(who, seed) for _, who, seed, _ in ran.furnace.grow.ran]
    trials = [(f"candidate~{number}", 3) for number in range(3)]
    assert trained == [*trials, ("candidate", 8)], "the winner's trial is its cell"


def test_every_arm_and_the_control_find_their_own(bench: Bench) -> None:
    """More gain is better below a bound that differs by arm: `steps` 1 and a cap would hide a shared value."""
    bench.write(
        swept(
            1, 2,
            arms={"a": {}, "b": arm(gain=0.5)},
            control={"set": {"steps": 2}},
            gate=[below(9, relative_to="control")],
        )
    )  # fmt: skip
    ran = bench.launch()
    told = {event["who"]: event["chosen"] for event in ran.told("sweep_chosen")}
    assert told == {"arm:a": {"gain": 2}, "control": {"gain": 2}}, "an arm that sets the path itself sweeps nothing"
    assert ran.value("tune", who="arm:b") == grown(0.5, 0, 3)
    assert ran.value("tune", who="control") == grown(2, 0, 2)


def test_several_paths_are_combined(bench: Bench) -> None:
    bench.write(stage("tune", sweep={"gain": [1, 2], "steps": [1, 2]}, select=SELECT))
    ran = bench.launch()
    trials = ran.told("sweep_chosen")[0]["trials"]
    assert trials == [{"gain": gain, "steps": steps} for gain in (1, 2) for steps in (1, 2)]


def test_what_diverges_is_not_chosen(bench: Bench) -> None:
    bench.write(stage("tune", config={"gain": 5}, sweep={"breaks_at": [1, None]}, select=SELECT))
    ran = bench.launch()
    assert ran.told("sweep_chosen")[0]["values"][0] is None
    assert ran.told("sweep_chosen")[0]["chosen"] == {"breaks_at": None}
    assert ran.outcome.status == "passed"


def test_a_sweep_without_any_good_value_fails_the_attempt(bench: Bench) -> None:
    when = [{"metric": "train/non_finite", "op": ">", "value": 0}]
    bench.write(
        stage("tune", sweep={"breaks_at": [1, 2]}, select=SELECT, on_fail=[
            {"name": "slower", "when": when, "then": "go_on", "because": "seen"}])
    )  # fmt: skip
    ran = bench.launch()
    assert ran.verdicts() == [("tune", 1, "fail")]
    assert ran.decisions() == [("tune", 1, "go_on")], "the rule saw that its trials were not finite"


def test_only_the_chosen_are_judged_on_the_test_data(bench: Bench) -> None:
    bench.write(swept(1, 4, 2, gate=[below(99)]))
    assert bench.launch().furnace.size.judged == [grown(4, 0, 3)]


def test_going_on_from_a_checkpoint_keeps_the_chosen_value(bench: Bench) -> None:
    more = {"name": "more", "set": {"steps": 2}, "from": "checkpoint", "because": "it still falls"}
    bench.write(swept(1, 4, gate=[below(3)], on_fail=[more]))
    ran = bench.launch()
    assert ran.value("tune", attempt=2) == grown(4, 0, 2, start=grown(4, 0, 3), first=3)
    assert [who for name, who, _, _ in ran.furnace.grow.ran if name == "tune/2"] == ["candidate"]


# The best of several


def test_the_best_arm_is_judged_and_handed_on(bench: Bench) -> None:
    arms = {"a": arm(gain=1), "b": arm(gain=3), "c": arm(gain=2)}
    bench.write(
        stage("split", arms=arms, candidate="best", select=SELECT, gate=[below(1, relative_to="arm:*")]),
        stage("next", needs={"model": "split"}),
        seeds=[0, 1],
    )
    ran = bench.launch()
    chosen = ran.told("candidate_chosen")[0]
    assert chosen["candidate"] == "arm:b"
    expected = [sum(loss_of(grown(gain, seed, 3)) for seed in (0, 1)) / 2 for gain in (1, 3, 2)]
    assert chosen["values"] == pytest.approx(expected)
    assert [one["relative_to"] for one in ran.told("verdict")[0]["conditions"]] == ["arm:a", "arm:c"]
    assert ran.value("next") == grown(1, 0, 3, start=grown(3, 0, 3))


def test_the_twin_is_solved_for_the_arm_that_was_chosen(bench: Bench) -> None:
    arms = {"a": arm(gain=1), "b": arm(gain=3)}
    bench.write(
        stage("split", arms=arms, candidate="best", select=SELECT, gate=[below(2, relative_to="control")]),
        control={"twin": "dense", "set": {"steps": 2}},
    )
    ran = bench.launch()
    assert ran.value("split", who="control") == grown(3, 0, 2)
    assert [who for _, who, _, _ in ran.furnace.grow.ran] == ["arm:a", "arm:b", "control"]


# A stage's own control


def test_a_stage_s_own_control_takes_the_candidate_s_inputs(bench: Bench) -> None:
    bench.write(
        stage("seed", gate=[below(99, relative_to="control")]),
        stage(
            "tune", needs={"model": "seed"}, config={"gain": 2}, control={"set": {"gain": 1}},
            gate=[below(99, relative_to="control")],
        ),
        control={"twin": "dense", "set": {"gain": 7}},
    )  # fmt: skip
    ran = bench.launch()
    assert ran.value("seed", who="control") == grown(7, 0, 3)
    assert ran.value("tune", who="control") == grown(1, 0, 3, start=grown(1, 0, 3))


def test_a_stage_s_own_control_may_have_other_inputs(bench: Bench) -> None:
    bench.write(
        stage("seed"),
        stage("clone", needs={"model": "seed"}, config={"gain": 9}),
        stage(
            "tune", needs={"model": "clone"}, control={"needs": {"model": "seed"}},
            gate=[below(99, relative_to="control")],
        ),
    )  # fmt: skip
    ran = bench.launch()
    assert ran.value("tune", who="control") == grown(1, 0, 3, start=grown(1, 0, 3))


def test_a_stage_s_own_control_that_nothing_asks_for_is_not_run(bench: Bench) -> None:
    bench.write(stage("tune", control={"set": {"gain": 1}}, gate=[below(99)]))
    assert [who for _, who, _, _ in bench.launch().furnace.grow.ran] == ["candidate"]


def test_the_twin_is_not_trained_where_nothing_builds_on_it(bench: Bench) -> None:
    bench.write(
        stage("aside"),
        stage("base", config={"steps": 2}),
        stage("tune", needs={"model": "base"}, gate=[below(99, relative_to="control")]),
        control={"twin": "dense", "set": {"gain": 2}},
    )
    ran = bench.launch()
    assert {(name, who) for name, who, _, _ in ran.furnace.grow.ran} == {
        ("aside/1", "candidate"), ("base/1", "candidate"), ("base/1", "control"), ("tune/1", "candidate"),
        ("tune/1", "control"),
    }  # fmt: skip


# Tokens to a reference


def test_tokens_until_the_reference_s_last_loss(bench: Bench) -> None:
    """gain 3 for six steps against gain 1 for six: the first look at or below the reference's last loss counts."""
    metric = "grow/loss/tokens_to_reference"
    bench.write(
        stage("split", config={"steps": 6}, arms={"fast": arm(gain=3), "slow": {}},
              gate=[below(0.9, metric, relative_to="arm:slow"),
                    below(-5, metric, relative_to="arm:slow", **{"as": "difference"})])
    )  # fmt: skip
    target = loss_of(grown(1, 0, 6))
    step = next(step for step in range(1, 7) if loss_of(grown(3, 0, step)) <= target)
    assert 1 < step < 6
    ratio, difference = bench.launch().told("verdict")[0]["conditions"]
    assert ratio["value"] == step / 6
    assert difference["value"] == 10 * step - 60


def test_a_reference_that_is_never_reached_fails_what_it_can_decide(bench: Bench) -> None:
    metric = "grow/loss/tokens_to_reference"
    gate = [below(value, metric, relative_to="arm:fast") for value in (0.9, 1.0)] + [
        {"metric": metric, "relative_to": "arm:fast", "op": "<=", "value": 2},
        {"metric": metric, "relative_to": "arm:fast", "op": ">", "value": 1},
    ]
    bench.write(stage("split", arms={"slow": {}, "fast": arm(gain=3)}, gate=gate))
    statuses = [one["status"] for one in bench.launch().told("verdict")[0]["conditions"]]
    assert statuses == ["fail", "fail", "missing", "pass"]
