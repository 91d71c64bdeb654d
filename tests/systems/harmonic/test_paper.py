"""harmonic/paper: the seed's large model is counted twice and priced, and what does not add up is said."""

import pytest
import torch

from bloomery.plan.ledger import ledger
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


SECTION_3 = {
    "7B, 5.8B and 6.4B": ("H-07", "H-29"),
    "33x against 22x": ("H-06", "H-11", "H-56", "H-63"),
    "69x twice; 1,527x and 279,620x": ("H-01", "H-15", "H-59", "H-66", "H-88"),
    "loss without a unit, two thresholds": ("H-08", "H-31"),
    "steps to March 11, tokens, two losses of one run": ("H-05", "H-30", "H-32"),
    "MMLU from 3.8M": ("H-65",),
    "never stop early, and density for capacity": ("H-35", "H-37"),
    "the ladder of levels": ("H-18", "H-73"),
}


def test_its_budget_says_all_that_does_not_add_up() -> None:
    """Spec section 3, row by row; each has its sum."""
    said = {row.id: row for row in ledger().counted_by("harmonic/paper")}
    assert set(said) == {row for rows in SECTION_3.values() for row in rows}
    for row, numbers in (
        ("H-01", "20,742"),
        ("H-66", "1,526x"),
        ("H-05", "29x"),
        ("H-73", "279,620x"),
        ("H-65", "2 bits"),
    ):
        assert numbers in said[row].known
