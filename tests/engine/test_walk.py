"""Walking a plan: what runs, what is taken over, what rules do, and what is handed on. On a furnace without fire."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bloomery.engine.artifact import digest_of_foreign
from bloomery.engine.stage import StageContext, StageResult
from bloomery.errors import ArtifactError, NonFinite, TrainingError
from support.furnace import TOKENS_A_STEP, Bench, Grow, below, grown, loss_of, stage, write_value

CONTROL = {"twin": "dense"}
MEAN = "baseline:mean"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("bloomery.engine.rundir._git", lambda folder: ("c" * 40, False))
    return Bench(tmp_path)


def retry(name: str, set: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"name": name, "set": set, "because": "it may help", **keys}


# One walk


def test_one_stage_that_passes(bench: Bench) -> None:
    bench.write(stage("only", config={"gain": 2, "steps": 4}, gate=[below(10)]), seeds=[0, 3])
    ran = bench.launch()
    assert ran.outcome.status == "passed"
    assert ran.outcome.exit_code == 0
    assert ran.value("only", seed=0) == grown(2, 0, 4)
    assert ran.value("only", seed=3) == grown(2, 3, 4)
    verdict = ran.told("verdict")[0]
    expected = (loss_of(grown(2, 0, 4)) + loss_of(grown(2, 3, 4))) / 2
    assert verdict["conditions"][0]["value"] == pytest.approx(expected)
    assert [event["event"] for event in ran.events[:4]] == [
        "run_opened",
        "budget_planned",
        "walk_started",
        "stage_started",
    ]
    assert ran.events[-1]["event"] == "run_finished"
    assert ran.told("budget_spent")[-1]["tokens"] == 2 * 4 * TOKENS_A_STEP
    assert not (ran.folder / "only/1/candidate-seed0/checkpoint").exists()
    assert (ran.folder / "plan.yaml").read_text() == (bench.root / "plan.yaml").read_text()


def test_a_failed_gate_without_remedy_ends_the_plan(bench: Bench) -> None:
    bench.write(stage("first", gate=[below(1)]), stage("second"))
    ran = bench.launch()
    assert (ran.outcome.status, ran.outcome.exit_code) == ("failed", 1)
    assert "first" in ran.outcome.reason
    assert "no remedies" in ran.outcome.reason
    assert ran.decisions() == [("first", 1, "stop")]
    assert {name for name, *_ in ran.furnace.grow.ran} == {"first/1"}


def test_a_metric_that_was_not_measured_is_missing_and_fails_closed(bench: Bench) -> None:
    bench.write(stage("only", gate=[below(1, "grow/other")]))
    ran = bench.launch()
    assert ran.verdicts() == [("only", 1, "missing")]
    assert ran.outcome.exit_code == 1


def test_an_earlier_stage_is_a_stage_input_and_a_reference(bench: Bench) -> None:
    bench.write(
        stage("first", config={"gain": 1}),
        stage("second", config={"gain": 5}, needs={"model": "first"}, gate=[below(0.5, relative_to="stage:first")]),
    )
    ran = bench.launch()
    assert ran.value("second") == grown(5, 0, 3, start=grown(1, 0, 3))
    condition = ran.told("verdict")[1]["conditions"][0]
    assert condition["reference"] == pytest.approx(loss_of(grown(1, 0, 3)))
    assert condition["value"] == pytest.approx(loss_of(ran.value("second")) / loss_of(ran.value("first")))


def test_the_kind_s_own_metric_of_an_earlier_stage_can_be_a_reference(bench: Bench) -> None:
    bench.write(
        stage("first"),
        stage("second", needs={"model": "first"}, gate=[below(1, "grow/loss", relative_to="stage:first")]),
    )
    condition = bench.launch().told("verdict")[1]["conditions"][0]
    assert condition["reference"] == pytest.approx(loss_of(grown(1, 0, 3)))


def test_a_stage_with_fewer_seeds_is_shared(bench: Bench) -> None:
    bench.write(stage("base", seeds=[7]), stage("tuned", needs={"model": "base"}), seeds=[0, 1])
    ran = bench.launch()
    base = grown(1, 7, 3)
    assert [ran.value("tuned", seed=seed) for seed in (0, 1)] == [grown(1, seed, 3, start=base) for seed in (0, 1)]


def test_cells_that_are_the_same_in_everything_are_run_once(bench: Bench) -> None:
    bench.write(stage("one"), stage("two"), stage("three", config={"steps": 4}), seeds=[0])
    ran = bench.launch()
    assert [name for name, *_ in ran.furnace.grow.ran] == ["one/1", "three/1"]
    assert [(event["stage"], event["of"]) for event in ran.told("cell_reused")] == [("two", ["one", 1, "candidate", 0])]


def test_a_suite_judges_each_artifact_once(bench: Bench) -> None:
    bench.write(
        stage("first", gate=[below(100)]),
        stage("judge", "judge", needs={"model": "first"}, gate=[below(100)], evaluate=["size"]),
    )
    ran = bench.launch()
    assert len(ran.furnace.size.judged) == 1
    assert ran.verdicts() == [("first", 1, "pass"), ("judge", 1, "pass")]
    assert len(ran.told("sample")) == 1


# Controls and baselines


def test_the_control_runs_up_to_the_last_stage_that_names_it(bench: Bench) -> None:
    bench.write(
        stage("one"),
        stage("two", needs={"model": "one"}, gate=[below(9, relative_to="control")]),
        stage("three", needs={"model": "two"}),
        control=CONTROL | {"set": {"gain": 3}},
    )
    ran = bench.launch()
    who = {(name.split("/")[0], who) for name, who, _, _ in ran.furnace.grow.ran}
    assert who == {
        ("one", "candidate"),
        ("one", "control"),
        ("two", "candidate"),
        ("two", "control"),
        ("three", "candidate"),
    }
    assert ran.value("two", who="control") == grown(3, 0, 3, start=grown(3, 0, 3))
    assert ran.value("three") == grown(1, 0, 3, start=ran.value("two"))


def test_a_baseline_is_fitted_on_the_tokens_of_the_stage_that_read_them(bench: Bench) -> None:
    gate = [below(9, relative_to="baseline:mean")]
    bench.write(
        stage("train", config={"steps": 5}),
        stage("judge", "judge", needs={"model": "train"}, gate=gate),
        seeds=[0, 2], baselines={"mean": {"kind": "mean"}, "unused": {"kind": "mean"}},
    )  # fmt: skip
    ran = bench.launch()
    assert ran.furnace.mean.read == [list(range(5)), list(range(200, 205))]
    assert ran.value("judge", who="baseline:mean", seed=2) == 202


def test_a_baseline_knows_the_arm_whose_model_was_taken(bench: Bench) -> None:
    arms = {"long": {"set": {"steps": 5}}, "short": {"set": {"steps": 2}}}
    bench.write(
        stage("split", arms=arms),
        stage("next", needs={"model": "split@short"}, config={"steps": 1}, gate=[below(99, relative_to=MEAN)]),
        baselines={"mean": {"kind": "mean"}},
    )
    assert bench.launch().furnace.mean.read == [[0, 1, 0]]


def test_a_baseline_does_not_know_what_was_rolled_back(bench: Bench) -> None:
    write_value(bench.root / "given", 5)
    trial: dict[str, Any] = {"gate": [below(0.001)], "optional": True}
    bench.write(
        stage("foreign", needs={"model": "inputs.base"}, config={"steps": 5}, **trial),
        stage("next", needs={"model": "foreign"}, config={"steps": 1}, gate=[below(99, relative_to=MEAN)]),
        stage("two", config={"steps": 4}),
        stage("split", needs={"model": "next"}, arms={"a": {"needs": {"model": "two"}}}, **trial),
        stage("last", needs={"model": "split"}, config={"steps": 2}, gate=[below(99, relative_to=MEAN)]),
        inputs={"base": {"folder": "given"}}, baselines={"mean": {"kind": "mean"}},
    )  # fmt: skip
    ran = bench.launch()
    assert ran.furnace.mean.read == [[0], [0, 1, 2, 3, 0, 1]]
    assert ran.value("last") == grown(1, 0, 2, start=grown(1, 0, 4))


# Rules


def test_a_retry_from_the_start_adds_its_patch(bench: Bench) -> None:
    bench.write(stage("only", gate=[below(5)], on_fail=[retry("more", {"gain": 4})]))
    ran = bench.launch()
    assert ran.verdicts() == [("only", 1, "fail"), ("only", 2, "pass")]
    assert ran.decisions() == [("only", 1, "retry"), ("only", 2, "go_on")]
    assert ran.value("only", 2) == grown(4, 0, 3)
    walks = ran.told("walk_started")
    assert [walk["walk"] for walk in walks] == [1, 2]
    assert walks[1]["patches"] == [{"stage": "only", "rule": "more", "set": {"gain": 4}, "because": "it may help"}]


def test_patches_of_several_rules_add_up_and_each_rule_is_used_once(bench: Bench) -> None:
    rules = [retry("gain", {"gain": 2}), retry("steps", {"steps": 5})]
    bench.write(stage("only", gate=[below(0.001)], on_fail=rules))
    ran = bench.launch()
    assert [action for _, _, action in ran.decisions()] == ["retry", "retry", "stop"]
    assert ran.value("only", 3) == grown(2, 0, 5)


def test_a_retry_from_a_checkpoint_goes_on_and_reads_further(bench: Bench) -> None:
    rule = retry("on", {"gain": 2}, **{"from": "checkpoint", "max_attempts": 2})
    gate = [below(0.001), below(9, relative_to="control"), below(99, relative_to="baseline:mean")]
    bench.write(
        stage("only", gate=gate, on_fail=[rule]),
        control=CONTROL, seeds=[0, 1], baselines={"mean": {"kind": "mean"}},
    )  # fmt: skip
    ran = bench.launch()
    assert [attempt for _, attempt, _ in ran.verdicts()] == [1, 2, 3]
    for who in ("candidate", "control"):
        for seed in (0, 1):
            first = grown(1, seed, 3)
            second = grown(2, seed, 3, start=first, first=3)
            assert ran.value("only", 2, who, seed) == second
            assert ran.value("only", 3, who, seed) == grown(2, seed, 3, start=second, first=6)
    assert [len(tokens) for tokens in ran.furnace.mean.read] == [3, 3, 6, 6, 9, 9]


def test_a_baseline_of_a_later_stage_knows_the_tokens_of_all_attempts(bench: Bench) -> None:
    rule = retry("on", {"gain": 2}, **{"from": "checkpoint"})
    bench.write(
        stage("train", gate=[below(12)], on_fail=[rule]),
        stage("judge", "judge", needs={"model": "train"}, gate=[below(99, relative_to="baseline:mean")]),
        baselines={"mean": {"kind": "mean"}},
    )
    ran = bench.launch()
    assert ran.verdicts() == [("train", 1, "fail"), ("train", 2, "pass"), ("judge", 1, "pass")]
    assert ran.furnace.mean.read == [list(range(6))]


def test_a_control_that_a_rule_does_not_touch_is_not_run_again(bench: Bench) -> None:
    bench.write(
        stage("only", gate=[below(0.001), below(9, relative_to="control")], on_fail=[retry("more", {"gain": 2})]),
        control=CONTROL | {"set": {"gain": 3}},
    )
    ran = bench.launch()
    assert [cell[:2] for cell in ran.furnace.grow.ran] == [
        ("only/1", "candidate"),
        ("only/1", "control"),
        ("only/2", "candidate"),
    ]
    assert [(event["who"], event["of"]) for event in ran.told("cell_reused")] == [
        ("control", ["only", 1, "control", 0])
    ]
    assert ran.told("verdict")[1]["conditions"][1]["reference"] == pytest.approx(loss_of(grown(3, 0, 3)))


def test_a_control_taken_over_from_an_earlier_attempt_still_goes_on_from_its_checkpoint(bench: Bench) -> None:
    rules = [retry("more", {"gain": 2}), retry("on", {"gain": 4}, **{"from": "checkpoint"})]
    bench.write(
        stage("only", gate=[below(0.001), below(9, relative_to="control")], on_fail=rules),
        control=CONTROL | {"set": {"gain": 3}},
    )
    ran = bench.launch()
    assert ran.value("only", 3) == grown(4, 0, 3, start=grown(2, 0, 3), first=3)
    assert ran.value("only", 3, "control") == grown(3, 0, 3, start=grown(3, 0, 3), first=3)


def test_a_checkpoint_of_other_inputs_is_not_gone_on_from(bench: Bench) -> None:
    rule = retry("both", {"gain": 2, "stages.base.config.gain": 3}, **{"from": "checkpoint"})
    bench.write(
        stage("base"), stage("tuned", needs={"model": "base"}, gate=[below(0.001)], on_fail=[rule]),
    )  # fmt: skip
    ran = bench.launch()
    base = grown(3, 0, 3, start=grown(1, 0, 3), first=3)
    assert ran.value("base", 2) == base
    assert ran.value("tuned", 2) == grown(2, 0, 3, start=base)


def test_where_one_party_s_inputs_are_others_all_begin_anew(bench: Bench) -> None:
    """Else arm a would have read twice as many tokens as arm b."""
    rule = retry("both", {"gain": 2, "stages.other.config.gain": 7}, **{"from": "checkpoint"})
    bench.write(
        stage("base"),
        stage("other", config={"gain": 5}),
        stage("split", needs={"model": "base"}, arms={"a": {}, "b": {"needs": {"model": "other"}}},
              gate=[below(0.001)], on_fail=[rule]),
    )  # fmt: skip
    ran = bench.launch()
    assert ran.value("split", 2, "arm:a") == grown(2, 0, 3, start=grown(1, 0, 3))
    assert ran.value("split", 2, "arm:b") == grown(2, 0, 3, start=ran.value("other", 2))


def test_a_rule_that_patches_an_earlier_stage_walks_from_there(bench: Bench) -> None:
    rule = retry("base", {"stages.base.config.gain": 10})
    bench.write(
        stage("base"),
        stage("beside", config={"gain": 3}),
        stage("tuned", needs={"model": "base"}, gate=[below(1.5)], on_fail=[rule]),
        stage("last", needs={"model": "tuned"}),
    )
    ran = bench.launch()
    assert ran.outcome.status == "passed"
    assert [name for name, *_ in ran.furnace.grow.ran] == [
        "base/1",
        "beside/1",
        "tuned/1",
        "base/2",
        "tuned/2",
        "last/1",
    ]
    assert ran.value("last") == grown(1, 0, 3, start=grown(1, 0, 3, start=grown(10, 0, 3)))


def test_a_rule_whose_condition_does_not_hold_is_passed_over(bench: Bench) -> None:
    rules = [
        retry("never", {"gain": 9}, when=[below(1, "grow/loss")]),
        retry("fits", {"gain": 2}, when=[{"metric": "grow/loss", "op": ">", "value": 1}]),
    ]
    bench.write(stage("only", gate=[below(0.001)], on_fail=rules))
    ran = bench.launch()
    assert [event.get("rule") for event in ran.told("decision")] == ["fits", None]


def test_go_on_hands_the_own_result_on_and_the_run_stays_failed(bench: Bench) -> None:
    rule = {"name": "anyway", "then": "go_on", "because": "to see the rest"}
    bench.write(
        stage("first", gate=[below(0.001)], on_fail=[rule]),
        stage("second", needs={"model": "first"}),
        stage("third", needs={"model": "first", "after": "first.passed"}, optional=True),
        stage("fourth", needs={"model": "third"}, optional=True),
    )
    ran = bench.launch()
    assert (ran.outcome.status, ran.outcome.exit_code) == ("failed", 1)
    assert "first" in ran.outcome.reason
    assert ran.value("second") == grown(1, 0, 3, start=grown(1, 0, 3))
    assert {event["stage"]: event["why"] for event in ran.told("stage_skipped")} == {"third": "first did not pass"}
    assert ran.value("fourth") == grown(1, 0, 3, start=grown(1, 0, 3)), "what third was given, as if it had failed"


def test_a_loop_that_is_not_to_begin_hands_on_what_came_in(bench: Bench) -> None:
    rule = {"name": "anyway", "then": "go_on", "because": "to see the rest"}
    bench.write(
        stage("first", gate=[below(0.001)], on_fail=[rule]),
        {"id": "loop", "repeat": 2, "needs": {"model": "first", "after": "first.passed"}, "optional": True,
         "stages": [stage("more", needs={"model": "loop"}, gate=[below(99)])]},
        stage("last", needs={"model": "loop"}),
    )  # fmt: skip
    ran = bench.launch()
    assert ran.value("last") == grown(1, 0, 3, start=grown(1, 0, 3))


def test_a_rule_that_stops_gives_its_reason(bench: Bench) -> None:
    rule = {"name": "enough", "then": "stop", "because": "the idea does not work"}
    bench.write(stage("first", gate=[below(0.001)], on_fail=[rule, retry("more", {"gain": 9})]), stage("second"))
    ran = bench.launch()
    assert ran.outcome.reason == "stage first: the idea does not work"
    assert len(ran.furnace.grow.ran) == 1


def test_an_optional_stage_that_fails_hands_on_what_came_in(bench: Bench) -> None:
    bench.write(
        stage("base"),
        stage("trial", config={"gain": 9}, needs={"model": "base"}, gate=[below(0.001)], optional=True),
        stage("last", config={"gain": 2}, needs={"model": "trial"}),
        stage("wants", needs={"model": "trial", "after": "trial.passed"}, optional=True),
        stage("state", needs={"state": "trial"}, optional=True),
    )
    ran = bench.launch()
    assert ran.outcome.status == "passed"
    assert ("trial", 1, "not_promoted") in ran.decisions()
    assert ran.value("last") == grown(2, 0, 3, start=grown(1, 0, 3))
    skipped = {event["stage"]: event["why"] for event in ran.told("stage_skipped")}
    assert skipped["wants"] == "trial did not pass"
    assert skipped["state"].startswith("trial.state is absent")


def test_forced_a_stage_runs_though_what_it_needs_did_not_pass_and_it_is_told(bench: Bench) -> None:
    """But not where an artifact is missing. A run that goes on says it once."""
    bench.write(
        stage("base"),
        stage("trial", config={"gain": 9}, needs={"model": "base"}, gate=[below(0.001)], optional=True),
        stage("wants", config={"gain": 2}, needs={"model": "trial", "after": "trial.passed"}, optional=True),
        stage("state", needs={"state": "trial", "after": "trial.passed"}, optional=True),
    )
    assert "wants" in {event["stage"] for event in bench.launch().told("stage_skipped")}
    for _ in range(2):
        ran = bench.launch(force=True)
    assert ran.value("wants") == grown(2, 0, 3, start=grown(1, 0, 3))
    told = [event["text"] for event in ran.told("note") if event["text"].startswith("forced")]
    assert told == ["forced: stage wants runs though trial did not pass (--force)"]
    assert {event["stage"]: event["why"] for event in ran.told("stage_skipped")}["state"].startswith("trial.state")


def test_an_optional_stage_that_passes_is_promoted(bench: Bench) -> None:
    bench.write(
        stage("base"),
        stage("trial", config={"gain": 9}, needs={"model": "base"}, gate=[below(50)], optional=True),
        stage("wants", needs={"model": "trial", "after": "trial.passed"}, optional=True),
    )
    ran = bench.launch()
    assert ran.value("wants") == grown(1, 0, 3, start=grown(9, 0, 3, start=grown(1, 0, 3)))


# Training that cannot go on


def test_a_cell_that_breaks_fails_its_stage_and_a_remedy_may_apply(bench: Bench) -> None:
    broken = [{"metric": "train/non_finite", "op": ">=", "value": 1}]
    bench.write(
        stage(
            "only",
            config={"breaks_at": 2},
            gate=[below(90)],
            on_fail=[retry("calmer", {"breaks_at": None}, when=broken)],
        )
    )
    ran = bench.launch()
    assert ran.verdicts() == [("only", 1, "fail"), ("only", 2, "pass")]
    assert "not a number" in ran.told("verdict")[0]["reason"]
    assert ran.told("cell_failed")[0]["stage"] == "only"
    assert ran.outcome.status == "passed"


def test_a_cell_that_broke_is_not_trained_again_by_the_next_launch(bench: Bench) -> None:
    bench.write(stage("only", config={"breaks_at": 2}, gate=[below(90)]), stage("second"))
    first = bench.launch()
    again = bench.launch()
    assert first.outcome == again.outcome
    assert first.outcome.status == "failed"
    assert again.furnace.grow.ran == []


# Launching again


def test_a_finished_plan_runs_nothing_again(bench: Bench) -> None:
    bench.write(
        stage("first", gate=[below(5)], on_fail=[retry("more", {"gain": 4})]), stage("second", needs={"model": "first"})
    )
    first = bench.launch()
    count = len(first.events)
    again = bench.launch()
    assert again.outcome == first.outcome
    assert again.furnace.grow.ran == []
    assert again.furnace.size.judged == []
    assert [event["event"] for event in again.events[count:]] == ["resumed", "budget_spent", "run_finished"]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"second": {"gain": 2}}, ["second/2"]),
        ({"first": {"gain": 2}}, ["first/2", "second/2"]),
        ({"beside": {"steps": 4}}, ["beside/2"]),
        ({}, []),
    ],
)
def test_a_changed_exploratory_plan_runs_only_what_depends(
    bench: Bench, edit: dict[str, dict[str, Any]], expected: list[str]
) -> None:
    def write(configs: dict[str, dict[str, Any]]) -> None:
        needs = {"second": {"model": "first"}}
        bench.write(
            *(
                stage(name, config=configs.get(name, {}), needs=needs.get(name, {}))
                for name in ("first", "beside", "second")
            )
        )

    write({})
    bench.launch()
    write(edit)
    ran = bench.launch()
    assert [name for name, *_ in ran.furnace.grow.ran] == expected
    write({})  # and back: everything is known
    assert bench.launch().furnace.grow.ran == []


def test_a_gate_that_changes_is_judged_again_without_training(bench: Bench) -> None:
    bench.write(stage("only", gate=[below(90)]))
    bench.launch()
    bench.write(stage("only", gate=[below(0.01)]))
    ran = bench.launch()
    assert ran.outcome.status == "failed"
    assert ran.furnace.grow.ran == ran.furnace.size.judged == []


def test_a_registered_plan_that_changed_is_refused_until_it_is_amended(bench: Bench) -> None:
    from bloomery.plan import registration
    from bloomery.plan.load import load

    bench.write(stage("only", gate=[below(90)]), hypothesis="it grows")
    first = bench.launch()
    assert first.told("registered")[0]["prediction"] == ["only: size/loss < 90 (mean over seeds)"]
    assert first.told("run_opened")[0]["mode"] == "confirmatory"
    file = bench.write(stage("only", gate=[below(91)]), hypothesis="it grows")
    before = (first.folder / "events.jsonl").read_bytes()
    with pytest.raises(ArtifactError, match="registered and has changed") as caught:
        bench.launch()
    assert "--amend" in caught.value.hint
    assert caught.value.exit_code == 2
    assert (first.folder / "events.jsonl").read_bytes() == before
    registration.amend(first.folder / "registration.jsonl", load(file), "the first threshold was a slip")
    ran = bench.launch()
    assert ran.outcome.status == "passed"
    assert [event["why"] for event in ran.told("amended")] == ["the first threshold was a slip"]
    assert len(ran.told("registered")) == 1
    assert ran.furnace.grow.ran == []


def test_overrides_go_to_a_folder_of_their_own_and_are_exploratory(bench: Bench) -> None:
    bench.write(stage("only", gate=[below(90)]), hypothesis="it grows")
    plain = bench.launch()
    changed = bench.launch(overrides=("stages.only.config.gain=2",))
    assert changed.folder.parent == plain.folder.parent
    assert changed.folder.name.startswith(plain.folder.name + "+")
    opened = changed.told("run_opened")[0]
    assert opened["mode"] == "exploratory"
    assert opened["overrides"] == {"stages.only.config.gain": "2"}
    assert changed.value("only") == grown(2, 0, 3)
    assert not changed.told("registered")
    assert not (changed.folder / "registration.jsonl").exists()
    assert plain.value("only") == grown(1, 0, 3)


def test_a_damaged_output_is_made_again_and_what_follows_is_kept(bench: Bench) -> None:
    bench.write(stage("first"), stage("second", needs={"model": "first"}))
    ran = bench.launch()
    (ran.folder / "first/1/candidate-seed0/model/value.json").write_text("{}")
    again = bench.launch()
    assert [name for name, *_ in again.furnace.grow.ran] == ["first/1"]
    assert again.outcome.status == "passed"
    assert bench.launch().furnace.grow.ran == []


# Stopping


def test_a_signal_stops_between_steps_and_the_next_launch_goes_on(bench: Bench, tmp_path: Path) -> None:
    stages = [stage("first", config={"steps": 4}), stage("second", config={"steps": 4}, needs={"model": "first"})]
    bench.write(*stages, seeds=[0, 1])
    whole = Bench(tmp_path / "whole")
    whole.write(*stages, seeds=[0, 1])
    expected = whole.launch().hashes()
    interrupted = 0
    for looks in range(1, 60):
        left = iter(range(looks))
        ran = bench.launch(signalled=lambda left=left: next(left, None) is None)
        if ran.outcome.status == "passed":
            break
        assert (ran.outcome.status, ran.outcome.exit_code) == ("interrupted", 130)
        assert ran.events[-1]["event"] == "interrupted"
        interrupted += 1
    assert interrupted > 3
    assert ran.hashes() == expected


def test_a_budget_stops_the_run_and_a_raised_one_lets_it_go_on(bench: Bench, tmp_path: Path) -> None:
    stages = [stage("first", config={"steps": 5}), stage("second", config={"steps": 5}, needs={"model": "first"})]
    whole = Bench(tmp_path / "whole")
    whole.write(*stages)
    expected = whole.launch().hashes()
    bench.write(*stages, budget={"tokens": "70 tok"})
    ran = bench.launch()
    assert (ran.outcome.status, ran.outcome.exit_code) == ("budget", 3)
    assert "tokens" in ran.outcome.reason
    assert "70" in ran.outcome.reason
    assert 70 < ran.told("budget_spent")[-1]["tokens"] <= 80
    assert bench.launch().outcome.status == "budget"
    bench.write(*stages, budget={"tokens": "100 tok"})
    final = bench.launch()
    assert final.outcome.status == "passed"
    assert final.hashes() == expected
    assert final.told("budget_spent")[-1]["tokens"] == 100
    assert final.told("budget_planned")[-1]["caps"]["tokens"] == 100


def test_a_stage_s_own_budget_is_named_when_it_stops_the_run(bench: Bench) -> None:
    bench.write(stage("first", config={"steps": 5}), stage("second", config={"steps": 6}, budget={"tokens": "20 tok"}))
    ran = bench.launch()
    assert ran.outcome.status == "budget"
    assert ran.outcome.reason.startswith("stage second: tokens")


# Inputs from elsewhere


def test_an_adopted_input_is_sealed_and_adopted_anew_when_it_changes(bench: Bench) -> None:
    foreign = bench.root / "given"
    foreign.mkdir()
    (foreign / "value.json").write_text(json.dumps({"value": 5}))
    bench.write(stage("only", needs={"model": "inputs.base"}), inputs={"base": {"folder": "given"}})
    ran = bench.launch()
    assert ran.value("only") == grown(1, 0, 3, start=5)
    assert (ran.folder / "inputs/base/value.json").exists()
    (foreign / "value.json").write_text(json.dumps({"value": 6}))
    assert bench.launch().value("only", 2) == grown(1, 0, 3, start=6)


def test_an_input_with_another_digest_is_refused_before_anything_is_written(bench: Bench) -> None:
    (bench.root / "file.bin").write_bytes(b"not it")
    inputs = {"base": {"file": "file.bin", "digest": "0" * 64}}
    bench.write(stage("only", needs={"model": "inputs.base"}), inputs=inputs)
    with pytest.raises(ArtifactError, match="digest") as caught:
        bench.launch()
    assert "inputs.base" in caught.value.where
    assert not bench.runs.exists()


def test_the_run_s_own_copy_of_an_input_is_not_taken_for_another_one(bench: Bench) -> None:
    """Not even where the original is gone: the digest that the plan names must be the one found."""
    write_value(bench.root / "given", 5)
    digest = digest_of_foreign(bench.root / "given")
    only = stage("only", needs={"model": "inputs.base"})
    bench.write(only, inputs={"base": {"folder": "given", "digest": digest}})
    bench.launch()
    shutil.rmtree(bench.root / "given")
    assert bench.launch().outcome.status == "passed"
    bench.write(only, inputs={"base": {"folder": "given", "digest": "0" * 64}})
    with pytest.raises(ArtifactError, match="does not exist"):
        bench.launch()


def test_text_that_is_not_there_is_told_before_anything_is_written(bench: Bench) -> None:
    data = {"tokenizer": {"kind": "bytes"}, "corpus": {"source": "text", "folder": "no/such/folder"}}
    bench.write(stage("only"), data=data)
    with pytest.raises(Exception, match="no/such/folder"):
        bench.launch()
    assert not bench.runs.exists()


def test_a_plan_is_not_registered_over_results_that_are_already_there(bench: Bench) -> None:
    bench.write(stage("only", gate=[below(91)]))
    bench.launch()
    bench.write(stage("only", gate=[below(90)]), hypothesis="it grows")
    with pytest.raises(ArtifactError, match="before the plan was registered"):
        bench.launch()


def test_a_mistake_in_the_set_up_is_an_error_and_no_finding(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.write(stage("only", gate=[below(90)]))

    def refuse(self: Grow, ctx: StageContext, config: object) -> StageResult:
        raise TrainingError("accumulate", "3 does not divide the batch of 8")

    with monkeypatch.context() as patch:
        patch.setattr(Grow, "run", refuse)
        with pytest.raises(TrainingError, match="does not divide"):
            bench.launch()
    ran = bench.launch()
    assert ran.outcome.status == "passed"
    assert ran.told("cell_failed") == []


def test_after_a_failed_cell_all_parties_begin_anew(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the candidate would go on from its checkpoint, and the control, which has none, would read fewer tokens."""
    gate = [{"metric": "size/loss", "relative_to": "control", "op": "<", "value": 0.1}]
    rules = [retry("again", {"steps": 4}, **{"from": "checkpoint"})]
    bench.write(stage("only", config={"steps": 3}, gate=gate, on_fail=rules), control=CONTROL | {"set": {"gain": 2}})
    whole = Grow.run

    def diverge_once(self: Grow, ctx: StageContext, config: object) -> StageResult:
        if ctx.who == "control" and ctx.workdir.parent.name == "1":
            raise NonFinite("step 1", "the loss is not a number")
        return whole(self, ctx, config)  # type: ignore[arg-type]

    monkeypatch.setattr(Grow, "run", diverge_once)
    ran = bench.launch()
    assert ran.value("only", who="candidate", attempt=2) == grown(1, 0, 4)
    assert ran.value("only", who="control", attempt=2) == grown(2, 0, 4)
