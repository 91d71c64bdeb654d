import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloomery.errors import TrainingError
from bloomery.train.schedule import ScheduleConfig, embedding_factor, factor

NAMES = ("wsd", "cosine", "linear", "constant", "warm_restart")


@given(name=st.sampled_from(NAMES), warmup=st.floats(0, 0.5), decay=st.floats(0, 0.5), floor=st.floats(0, 1),
       steps=st.integers(1, 400))  # fmt: skip
def test_stays_between_zero_and_one_and_falls_after_the_warm_up(name, warmup, decay, floor, steps):
    config = ScheduleConfig(name, warmup, decay, floor)
    values = [factor(config, step, steps) for step in range(steps)]
    warm = round(warmup * steps)
    assert all(0.0 < value <= 1.0 + 1e-12 or floor == 0.0 for value in values)
    assert all(a <= b + 1e-12 for a, b in pairwise(values[:warm]))
    assert all(a >= b - 1e-12 for a, b in pairwise(values[warm:]))
    if warm:
        assert values[warm - 1] == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["wsd", "cosine", "linear", "warm_restart"])
def test_ends_at_the_floor(name):
    assert factor(ScheduleConfig(name, 0.1, 0.3, 0.05), 99, 100) == pytest.approx(0.05)


def test_known_points():
    cosine = ScheduleConfig("cosine", warmup=0.0, floor=0.0)
    assert factor(cosine, 49, 100) == pytest.approx(0.5)
    assert factor(cosine, 24, 100) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert factor(ScheduleConfig("linear", warmup=0.0, floor=0.2), 49, 100) == pytest.approx(0.6)
    wsd = ScheduleConfig("wsd", warmup=0.0, decay=0.2, floor=0.0)
    assert factor(wsd, 79, 100) == 1.0
    assert factor(wsd, 89, 100) == pytest.approx(0.5)
    assert factor(ScheduleConfig("constant", warmup=0.1), 4, 100) == pytest.approx(0.5)
    assert factor(ScheduleConfig("cosine", warmup=0.1), 0, 100) == pytest.approx(0.1)
    assert factor(ScheduleConfig("warm_restart", warmup=0.1, floor=0.5), 4, 100) == pytest.approx(0.75)


@pytest.mark.parametrize("settings", [{"name": "cosin"}, {"warmup": 1.5}, {"floor": -0.1},
                                      {"name": "wsd", "warmup": 0.6, "decay": 0.6}])  # fmt: skip
def test_nonsense_is_refused(settings):
    with pytest.raises(TrainingError, match="schedule"):
        ScheduleConfig(**settings)


def test_embeddings_that_begin_fitted_come_up_from_a_tenth():
    config = ScheduleConfig("constant", warmup=0.0, embedding_warmup=0.2)
    assert embedding_factor(config, 0, 100) == pytest.approx(0.1)
    assert embedding_factor(config, 10, 100) == pytest.approx(0.55)
    assert [embedding_factor(config, step, 100) for step in (20, 99)] == [1.0, 1.0]
    assert embedding_factor(ScheduleConfig(), 0, 100) == 1.0
