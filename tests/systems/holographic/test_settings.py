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
        ({"mechanisms": {"novelty": False}}, "are of v4"),
    ],
)
def test_of_attractors(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Consolidate.model_validate({"tokens": "1k tok", **settings})


def test_the_theory_hears_what_attractors_do_not() -> None:
    heard = {"timescales": [3], "store": {"when_full": "stop"}, "mechanisms": {"novelty": False}}
    assert Consolidate.model_validate({"tokens": "1k tok", "variant": "v4", **heard}).timescales == (3,)
    with pytest.raises(ValidationError, match="each once"):
        TheoryRun.model_validate({"tokens": "1k tok", "timescales": [2, 2]})


@pytest.mark.parametrize("part", ["corpus", "corpus:train"])
def test_weights_are_not_found_on_what_the_memory_was_written_from(part: str) -> None:
    with pytest.raises(ValidationError, match="nothing else sees"):
        CalibrateSettings(data=part)
    assert CalibrateSettings(data="corpus:tune").nested
