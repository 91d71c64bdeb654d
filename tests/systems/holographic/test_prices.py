"""What a memory's stages are priced at, beside whole runs that were recorded: within a factor of two."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from bloomery.systems.holographic.kinds import Calibrate, Consolidate, Theory

RECORD = json.loads((Path(__file__).parents[3] / "benchmarks/results/holographic_whole_runs.json").read_text())
FACTOR = 2.0
"""A core that is shared gives one seed half of what it gives the next."""


def seconds(kind: str, vocab: int, **settings: Any) -> float:
    it = Theory() if kind == "holographic/theory" else Consolidate()
    cost = it.cost(it.config_model().model_validate(settings), system="holographic", vocab=vocab)
    assert cost.seconds is not None
    return cost.seconds


@pytest.mark.parametrize("run", RECORD["runs"], ids=lambda run: run["source"])
def test_a_recorded_run_is_priced_within_a_factor_of_what_it_took(run: dict[str, Any]) -> None:
    sleep = None if run["sleep_every"] is None else {"every": run["sleep_every"]}
    settings = {"variant": run["variant"], "tokens": run["tokens"], "context": run["context"], "sleep": sleep}
    priced = seconds(run["kind"], run["vocab"], **settings, episodes={"buffer": run["buffer"]})
    for measured in run["tokens_per_second"]:
        assert 1 / FACTOR < priced * measured / run["tokens"] < FACTOR


def test_a_longer_window_a_larger_day_and_more_nights_cost_more() -> None:
    def of(variant: str, context: int = 256, buffer: int = 2000, every: int = 10_000) -> float:
        return seconds("holographic/theory", 4096, variant=variant, tokens=100_000, context=context,
                       sleep={"every": every}, episodes={"buffer": buffer})  # fmt: skip

    for variant in ("v4", "prod"):
        windows = [of(variant, context) for context in (1, 2, 3, 8, 64, 256, 1000, 4096, 8192)]
        assert windows == sorted(windows)
        assert windows[-1] > 1.9 * windows[-2]
        assert of(variant, buffer=8000) - of(variant, buffer=4000) == pytest.approx(
            3 * (of(variant, buffer=4000) - of(variant, buffer=0 + 1)), rel=1e-3
        )
        assert of(variant, every=5000) > of(variant)
    assert math.isclose(seconds("consolidate", 4096, variant="attractor", tokens=10**6, sleep=None), 10.0)


def test_finding_weights_has_a_price() -> None:
    kind = Calibrate()
    costs = [
        kind.cost(kind.config_model().model_validate({"data": "corpus:tune", **more}), system="holographic", vocab=9)
        for more in ({}, {"documents": 10}, {"documents": 20})
    ]
    assert all(cost.seconds and cost.tokens for cost in costs)
    assert costs[2].seconds == 2 * (costs[1].seconds or 0)
