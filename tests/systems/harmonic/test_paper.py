"""harmonic/paper: the seed's large model is counted twice and priced, and what does not add up is said."""

import pytest
import torch

from bloomery.plan.load import load, resolve
from bloomery.stages.settings import architecture
from bloomery.systems.harmonic.config import HarmonicConfig
from bloomery.systems.harmonic.model import build


def test_it_has_the_size_that_the_seed_states() -> None:
    stage = resolve(load("harmonic/paper")).stages[0]
    config = architecture({"system": "harmonic", **stage.config["model"]})
    assert isinstance(config, HarmonicConfig)
    tally = config.tally(11600)
    assert tally.stored == pytest.approx(262e6, rel=0.005)
    assert tally.dense_equivalent == pytest.approx(5.8e9, rel=0.005)
    with torch.device("meta"):
        counted = build(config, 11600).tally()
    assert counted.stored == tally.stored
