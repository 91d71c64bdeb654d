"""Settings that cannot be meant are refused where they are written."""

from typing import Any

import pytest
from pydantic import ValidationError

from bloomery.systems.holographic.config import Consolidate, TheoryRun
from bloomery.systems.holographic.kinds import CalibrateSettings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"timescales": []}, "at least 1 item"),
        ({"timescales": [1, 2, 2]}, "each once"),
        ({"timescales": [1, 3]}, "hold 1 and 2"),
        ({"store": {"when_full": "stop"}}, "attractors forget"),
        ({"mechanisms": {"novelty": False}}, "mechanisms: of v4 and prod"),
        ({"noise": 0.1, "mechanisms": {"novelty": False}}, "noise, mechanisms: of v4 and prod; attractors do not hear"),
    ],
)
def test_of_attractors(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Consolidate.model_validate({"tokens": "1k tok", **settings})


def test_what_attractors_do_not_hear_is_accepted_and_told() -> None:
    settings = {"episodes": {"buffer": 10}, "consolidate_at": "adaptive", "sleep": {"rem_cycles": 3}, "context": 4096}
    told = {"tokens": "1k tok", **settings}
    every = ("context", "episodes", "consolidate_at", "sleep.rem_cycles")
    assert Consolidate.model_validate(told).unheard == every
    assert not Consolidate.model_validate({**told, "variant": "v4"}).unheard
    assert not Consolidate.model_validate({"tokens": "1k tok"}).unheard


def test_the_theory_hears_what_attractors_do_not() -> None:
    heard = {"timescales": [3], "store": {"when_full": "stop"}, "mechanisms": {"novelty": False}}
    assert Consolidate.model_validate({"tokens": "1k tok", "variant": "v4", **heard}).timescales == (3,)
    more = {
        "context": 9,
        "episodes": {"buffer": 10},
        "consolidate_at": "adaptive",
        "noise": 0.1,
        "sleep": {"rem_cycles": 3},
    }
    assert Consolidate.model_validate({"tokens": "1k tok", "variant": "prod", **more}).context == 9
    with pytest.raises(ValidationError, match="prototypes are of attractors"):
        Consolidate.model_validate({"tokens": "1k tok", "variant": "v4", "prototypes": [8]})
    with pytest.raises(ValidationError, match="each once"):
        TheoryRun.model_validate({"tokens": "1k tok", "timescales": [2, 2]})


@pytest.mark.parametrize("part", ["corpus", "corpus:train"])
def test_weights_are_not_found_on_what_the_memory_was_written_from(part: str) -> None:
    with pytest.raises(ValidationError, match="nothing else sees"):
        CalibrateSettings(data=part)
    assert CalibrateSettings(data="corpus:tune").nested
