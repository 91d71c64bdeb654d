"""Models of which attention or the feed-forward alone is generated: what is stored how, counted twice."""

import pytest
import torch
from pydantic import ValidationError

from bloomery.model.layers import Linear
from bloomery.model.tally import assert_equal, count
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.layers import HarmonicLinear
from bloomery.systems.harmonic.model import build

SHAPE = {"layers": 2, "width": 16, "heads": 2, "feed_forward": 24, "compression": 4}
ATTENTION, FEED_FORWARD = {"query", "key", "value", "output"}, {"gate", "up", "down"}


@pytest.mark.parametrize(
    ("where", "generated"),
    [("all", ATTENTION | FEED_FORWARD), ("attention", ATTENTION), ("feed_forward", FEED_FORWARD)],
)
def test_what_is_generated_and_what_is_stored(where: str, generated: set[str]) -> None:
    shape = HarmonicConfig.model_validate(SHAPE | {"where": where})
    with torch.device("meta"):
        model = build(shape, 20)
    kinds = {Linear: set[str](), HarmonicLinear: set[str]()}
    for name, module in model.named_modules():
        for kind, names in kinds.items():
            if isinstance(module, kind):
                names.add(name.rpartition(".")[2])
    assert kinds == {HarmonicLinear: generated, Linear: (ATTENTION | FEED_FORWARD) - generated}
    assert_equal(shape.tally(20), count(model))
    assert_equal(shape.tally(20), model.tally())
    dense = shape.dense().tally(20)
    for group, parts in (("attention", ATTENTION), ("feed_forward", FEED_FORWARD)):
        assert (shape.tally(20).groups[group].stored == dense.groups[group].stored) is not (parts <= generated)


def test_a_compression_that_only_stored_linears_could_not_bear_is_no_mistake() -> None:
    """One component of the feed-forward's sines takes 64 numbers of 384: at most 6x; attention bears less."""
    with pytest.raises(ValidationError, match="query"):
        HarmonicConfig.model_validate(SHAPE | {"compression": 5.5})
    HarmonicConfig.model_validate(SHAPE | {"compression": 5.5, "where": "feed_forward"})


@pytest.mark.parametrize("changes", [{"frozen": True}, {"compression": None, "level": 2, "meta_components": 2}])
def test_a_hybrid_is_of_level_1_and_trained(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="no hybrid"):
        HarmonicConfig.model_validate(SHAPE | {"where": "attention"} | changes)
