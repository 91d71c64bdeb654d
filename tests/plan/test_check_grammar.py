"""What `check` says of sweeps, arms, loops, `stop_if`, claims and wildcards: where, what is wrong, and nothing else."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import BaseModel, model_validator

from bloomery.errors import Problems
from bloomery.plan.check import Report, check
from bloomery.plan.load import load_text

sys.path.insert(0, str(Path(__file__).parent))
from fake_catalogue import FakeCatalogue, Pretrain, PretrainConfig  # pyright: ignore[reportMissingImports]
from mistakes import CLAIM, FURTHER, GATE, PLAN, PROBLEMS, WARNINGS  # pyright: ignore[reportMissingImports]


class Finetune(Pretrain):
    def accepts(self, config: BaseModel) -> Mapping[str, bool]:
        return {"model": True}


class Catalogue(FakeCatalogue):
    def kinds(self) -> Mapping[str, Any]:
        return {**super().kinds(), "finetune": Finetune()}


def report(*edits: tuple[str, str]) -> Report:
    text = PLAN
    for old, new in edits:
        assert text.count(old) == 1, (text.count(old), old)
        text = text.replace(old, new)
    return check(load_text(text, Path("plan.yaml")), Catalogue())


def line_of(words: str, *edits: tuple[str, str]) -> int:
    text = PLAN
    for old, new in edits:
        text = text.replace(old, new)
    return next(number for number, line in enumerate(text.splitlines(), start=1) if words in line)


def test_the_plan_that_is_edited_has_no_findings() -> None:
    found = report()
    assert found.problems == ()
    assert found.warnings == ()
    assert found.not_offered == ()


@pytest.mark.parametrize(("edit", "place", "said"), [case[1:] for case in PROBLEMS], ids=[case[0] for case in PROBLEMS])
def test_one_mistake_is_one_problem_at_its_place(edit: tuple[str, str], place: str, said: str) -> None:
    try:
        problems = report(edit).problems
    except Problems as error:
        problems = error.problems
    assert len(problems) == 1, "\n".join(map(str, problems))
    assert said in str(problems[0])
    assert problems[0].where.startswith(f"plan.yaml:{line_of(place.rstrip(), edit)}:"), problems[0].where


def test_where_there_is_no_control_a_claim_about_it_is_refused() -> None:
    without = ("control: {twin: dense, set: {schedule.warmup: 1%}}\n", "")
    gate = (GATE, GATE.replace("relative_to: control, ", ""))
    for claim in (CLAIM.replace("@eight", "@control"), CLAIM.replace('"arm:four"', "control")):
        problems = report(without, gate, (CLAIM, claim)).problems
        assert len(problems) == 1
        assert "there is no control" in str(problems[0])


@pytest.mark.parametrize(("edits", "place", "said"), [case[1:] for case in WARNINGS], ids=[x[0] for x in WARNINGS])
def test_one_thing_to_look_at_is_one_warning_at_its_place(edits: list[tuple[str, str]], place: str, said: str) -> None:
    found = report(*edits)
    assert found.problems == ()
    here = [note for note in found.warnings if said in str(note)]
    assert len(here) == 1, "\n".join(map(str, found.warnings))
    assert here[0].where.startswith(f"plan.yaml:{line_of(place, *edits)}:"), here[0].where
    assert len(found.warnings) == 1


def test_an_own_control_whose_set_covers_the_patch_is_not_warned_about() -> None:
    own = (GATE, "    control: {set: {schedule: {name: cosine}}}\n" + GATE)
    rule = ("set: {tokens: 2M tok}", "set: {schedule.name: warm_restart}")
    assert not [note for note in report(own, rule).warnings if "of the control too" in str(note)]


def test_settings_that_only_go_together_are_tried_together() -> None:
    """A cycle that a patch passes through is no mistake; only what it ends with is."""

    class Even(PretrainConfig):
        @model_validator(mode="after")
        def _even(self) -> Self:
            if (self.model.width // 32) % 2 != self.model.layers % 2:
                raise ValueError("layers and width must be even or odd together")
            return self

    class Odd(Pretrain):
        def config_model(self) -> type[BaseModel]:
            return Even

    class Both(Catalogue):
        def kinds(self) -> Mapping[str, Any]:
            return {**super().kinds(), "pretrain": Odd()}

    both = "{model.width: 32, model.layers: 5}"
    text = PLAN.replace("set: {model.width: 32}", f"set: {both}").replace("set: {tokens: 2M tok}", f"set: {both}")
    assert not [p for p in check(load_text(text, Path("plan.yaml")), Both()).problems if "together" in str(p)]
    alone = PLAN.replace("set: {tokens: 2M tok}", "set: {model.width: 32}")
    found = [p for p in check(load_text(alone, Path("plan.yaml")), Both()).problems if "on_fail" in p.where]
    assert len(found) == 1
    assert "together" in str(found[0])


def test_rules_inside_a_loop_count_once_for_every_cycle() -> None:
    rule = "}, on_fail: [{name: again, set: {optimizer.lr: 0.03}, because: b}]}\n"
    assert report().walks_bound == 2
    assert report((FURTHER, FURTHER.replace("}}\n", rule))).walks_bound == 2 + 2


def test_a_suite_on_what_a_loop_learns_from_is_refused_after_the_loop_too() -> None:
    learns = (FURTHER, FURTHER.replace("tokens: 1M tok}}", "tokens: 1M tok, data: corpus:val}}"))
    found = report(learns)
    assert len(found.problems) == 1
    assert "stage 'further' is fitted on it" in str(found.problems[0])


def test_every_run_is_listed_with_its_reason() -> None:
    told = [(run.stage, run.party, run.cells, run.why, run.at_most) for run in report().runs]
    two = "; sweep: 2 values on seed 0"
    assert told == [
        ("shape", "arm:four", 4, "arm four" + two, False),
        ("shape", "arm:eight", 4, "arm eight" + two, False),
        ("shape", "control", 4, "control: gate" + two, False),
        ("settle-1-further", "candidate", 3, "candidate", True),
        ("settle-2-further", "candidate", 3, "candidate", True),
        ("last", "candidate", 3, "candidate", False),
        ("last", "baseline:bigram", 3, "baseline bigram: gate", False),
    ]
