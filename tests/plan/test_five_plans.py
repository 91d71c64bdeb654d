"""The five plans of tests/plans, the measure of what a plan can say: they load, resolve and check clean."""

from pathlib import Path

import pytest

from bloomery.engine.discover import catalogue as installed
from bloomery.plan.check import check
from bloomery.plan.load import load, resolve
from bloomery.plan.runs import planned_runs
from support.anything import Anything, Nothing

PLANS = Path(__file__).resolve().parents[1] / "plans"
NAMES = ("agp", "felix", "harmonic", "holographic", "perspective")


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def test_they_are_all_there() -> None:
    assert tuple(sorted(file.stem for file in PLANS.glob("*.yaml"))) == NAMES
    assert len({load(PLANS / f"{name}.yaml").digest for name in NAMES}) == len(NAMES)


def test_where_nothing_is_installed_nothing_is_wrong_and_all_kinds_are_named(name: str) -> None:
    loaded = load(PLANS / f"{name}.yaml")
    found = check(loaded, Nothing())
    assert found.problems == ()
    said = "\n".join(map(str, found.not_offered))
    kinds = {stage.kind for stage in resolve(loaded).stages if stage.kind}
    kinds |= {suite.kind for suite in loaded.plan.suites.values()}
    assert all(f"'{kind}' is not offered by any installed system" in said for kind in kinds)


def test_where_everything_is_installed_nothing_is_wrong(name: str) -> None:
    loaded = load(PLANS / f"{name}.yaml")
    found = check(loaded, Anything(loaded, brings=False))
    assert found.problems == ()
    assert found.runs == planned_runs(loaded)


AHEAD: dict[str, set[str]] = {}
"""What these plans say that nothing installed understands yet."""


def test_with_what_is_installed_only_what_is_written_ahead_is_wrong(name: str) -> None:
    found = check(load(PLANS / f"{name}.yaml"), installed)
    assert {one.where.split(": ")[1] for one in found.problems} == AHEAD.get(name, set()), found.problems
    assert bool(found.not_offered) == (name not in installed.systems())


@pytest.mark.parametrize(
    ("name", "walks"), [("agp", 4), ("felix", 3), ("harmonic", 14), ("holographic", 4), ("perspective", 6)]
)
def test_the_largest_number_of_walks_is_one_and_one_for_every_use_of_a_rule(name: str, walks: int) -> None:
    """Counted by hand: `set:` rules, each as often as its max_attempts."""
    assert check(load(PLANS / f"{name}.yaml"), Nothing()).walks_bound == walks


def test_what_some_lines_of_them_mean() -> None:
    wake = load(PLANS / "holographic.yaml").plan.stage("wake")
    assert wake.config["tokens"] == "100000 tok"
    assert wake.config["context"] == 4096
    assert wake.config["sleep"]["every"] == "1000 tok"
    assert wake.on_fail[0].set["sleep.every"] == "500 tok"
    improve = load(PLANS / "harmonic.yaml").plan.stage("improve")
    assert improve.stages[3].gate[0].relative_to == "stage:improve"  # pyright: ignore
    runs = planned_runs(load(PLANS / "felix.yaml"))
    assert sum(run.cells for run in runs if run.stage == "exp40") == 5 * (3 + 1)
    assert next(run.why for run in runs if run.stage == "exp44-trunk" and run.party == "control").startswith(
        "control: stage exp44 builds on it"
    )
