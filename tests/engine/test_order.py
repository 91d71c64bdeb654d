"""Whoever comes first: the order of independent stages and of seeds in a plan changes no verdict and no weight.

And gates that must never pass, planted in a plan that otherwise does: through the whole engine, not only the judge.
"""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloomery.engine.stage import SuiteResult
from bloomery.measure import Measurement
from support.furnace import Bench, Furnace, Size, below, stage


def line_of_stages(letter: str, gains: list[float], bounds: list[float], tries: int) -> list[dict[str, Any]]:
    """Stages that each build on the one before, may fail, and have a remedy."""
    found = []
    for number, (gain, bound) in enumerate(zip(gains, bounds, strict=True)):
        remedy = {"name": "more", "set": {"steps": 6}, "max_attempts": tries, "because": "too few steps"}
        needs = {"model": f"{letter}{number - 1}"} if number else {}
        one = stage(f"{letter}{number}", config={"gain": gain}, gate=[below(bound)], optional=True, needs=needs)
        found.append({**one, "on_fail": [remedy]} if tries else one)
    return found


def interleaved(lines: list[list[dict[str, Any]]], order: list[int]) -> list[dict[str, Any]]:
    """The stages of all lines, each line in its own order."""
    rest = [list(one) for one in lines]
    return [rest[place].pop(0) for place in order]


LINES = st.lists(
    st.tuples(
        st.lists(st.sampled_from([0.1, 1.0, 3.0]), min_size=2, max_size=2),
        st.lists(st.sampled_from([0.5, 5.0, 15.0, 60.0]), min_size=2, max_size=2),
        st.integers(0, 1),
    ),
    min_size=2,
    max_size=3,
)


@pytest.mark.slow
@given(lines=LINES, data=st.data())
@settings(max_examples=12, deadline=None)
def test_the_order_of_independent_stages_and_of_seeds_changes_nothing(
    lines: list[tuple[list[float], list[float], int]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plans = [line_of_stages("abc"[number], *line) for number, line in enumerate(lines)]
    places = [number for number, line in enumerate(plans) for _ in line]
    order = data.draw(st.permutations(places))
    seeds = data.draw(st.permutations([0, 1, 2]))

    def outcome(order: list[int], seeds: list[int]) -> tuple[dict[str, Any], dict[Any, Any]]:
        bench = Bench(tmp_path_factory.mktemp("order"))
        bench.write(*interleaved(plans, order), seeds=seeds)
        ran = bench.launch()
        last = {event["stage"]: (event["attempt"], event["status"]) for event in ran.told("verdict")}
        trained = {(name, seed): ran.value(name, last[name][0], seed=seed) for name in last for seed in seeds}
        return last, trained

    assert outcome(list(order), list(seeds)) == outcome(places, [0, 1, 2])


class Planted(Size):
    """A suite whose word is worth nothing."""

    def __init__(self, *measured: Measurement) -> None:
        super().__init__()
        self.measured = measured

    def run(self, *words: Any, **facts: Any) -> SuiteResult:
        return SuiteResult(self.measured)


SURE = {"relative_to": "control", "as": "difference", "confidence": "95%"}
TWIN = {"twin": "dense", "match": "stored"}


@pytest.mark.parametrize(
    ("measured", "gate", "status"),
    [
        ((Measurement("loss", math.nan, 5),), below(1e9), "missing"),
        ((Measurement("loss", -math.inf, 5),), below(1e9), "missing"),
        ((), below(1e9), "missing"),
        ((Measurement("other", 0.0, 5),), below(1e9), "missing"),
        ((Measurement("loss", 1.0, 1),), below(2.0, confidence="95%"), "inconclusive"),
        ((Measurement("loss", 1.0, 5),), below(0.0, **SURE), "inconclusive"),
        ((Measurement("loss", 1.0, 5),), below(1.0, relative_to="control"), "fail"),
        ((Measurement("loss", 1.0, 5),), below(0.5, relative_to="stage:earlier"), "fail"),
    ],
    ids=["nan", "infinite", "absent", "another", "n of 1", "constant, surely", "constant", "constant before"],
)  # fmt: skip
def test_a_planted_gate_never_passes(
    tmp_path: Path, measured: tuple[Measurement, ...], gate: dict[str, Any], status: str
) -> None:
    bench = Bench(tmp_path)
    bench.write(stage("earlier"), stage("planted", needs={"model": "earlier"}, gate=[gate]), control=TWIN)
    ran = bench.launch(furnace=Furnace(size=Planted(*measured)))
    assert ran.verdicts()[-1] == ("planted", 1, status)
    assert ran.outcome.status == "failed"
